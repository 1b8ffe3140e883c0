"""What a search keeps and writes, with an optimiser and a worker that do as they are told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from nasflow_cli import search as search_module
from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.trial import History, Proposal, Result, Trial
from nasflow_cli.execute.inline import InlineExecutor
from nasflow_cli.search import Search, Stop
from nasflow_cli.store.journal import Journal
from nasflow_cli.store.run_directory import RunDirectory


class Silent:
    """An observer that says nothing."""

    def asked(self, trial: Trial) -> None: ...

    def told(self, trial: Trial, result: Result, history: History) -> None: ...

    def stopping(self, why: str, running: int) -> None: ...


class Script:
    """An optimiser that asks what it is given."""

    def __init__(self, trials: list[Trial]) -> None:
        self.trials = trials

    def ask(self, history: History) -> Trial | None:
        return self.trials[len(history.trials)] if len(history.trials) < len(self.trials) else None

    def reason(self, history: History) -> str | None:
        return None

    def wanted_checkpoints(self, history: History) -> set[int]:
        return set()


def trial_of(number: int, key: str, phase: str = "both") -> Trial:
    return Trial(
        **{"number": number, "architecture": Architecture(structure={}, operators={}), "key": key, "budget": 1},
        **{"phase": phase, "turn": 0, "bracket": 0, "rung": 0, "slot": (0, 0, number), "parent": None},
        **{"seed": number, "proposal": Proposal(source="random")},
    )


def play(directory: RunDirectory, trials: Sequence[Trial], scores: Sequence[float]) -> None:
    """Run a search that asks these trials, one after the other, which score so."""
    coming = iter(scores)

    def handler(payload: object, should_stop: object) -> dict[str, float]:
        return {"score": next(coming)}

    with InlineExecutor(lambda: handler, time.monotonic) as executor, Journal.resume(directory.journal)[0] as journal:
        Search(
            **{"run": directory, "optimizer": Script(list(trials)), "executor": executor, "journal": journal},
            **{"history": History(), "observer": Silent(), "stop": Stop(), "out_of_time": lambda: False},
            **{"grace_s": 0.0, "keep_best": 2},
        ).work()


def test_repeats_push_no_checkpoint_out_of_the_best(tmp_path: Path) -> None:
    networks = [("a", "both"), ("b", "both"), ("b", "confirm"), ("b", "confirm")]
    directory = RunDirectory(tmp_path)
    for number in (0, 1):
        directory.trial(number).root.mkdir(parents=True)
        directory.trial(number).checkpoint.write_text("weights")

    play(directory, [trial_of(number, *network) for number, network in enumerate(networks)], [0.5, 0.9, 0.8, 0.7])

    assert [directory.trial(number).checkpoint.exists() for number in (0, 1)] == [True, True]


def test_the_leaderboard_is_never_far_behind_and_costs_the_same_for_each_result_of_a_long_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(search_module, "write_leaderboard", lambda run, history: written.append(len(history.results)))
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    num = 1500

    play(RunDirectory(tmp_path), [trial_of(number, str(number)) for number in range(num)], [0.5] * num)

    assert written[:20] == list(range(1, 21))
    assert all(later - earlier <= 1 + earlier / 20 for earlier, later in pairwise(written))
    assert written[-1] == num  # at the end
    rows = {part: sum(moment for moment in written if moment <= part) for part in (num // 2, num - 1)}
    assert rows[num - 1] < 2.5 * rows[num // 2]
