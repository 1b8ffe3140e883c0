"""Which checkpoints a search keeps, with an optimiser and a worker that do as they are told."""

from __future__ import annotations

import time
from pathlib import Path

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


def test_repeats_push_no_checkpoint_out_of_the_best(tmp_path: Path) -> None:
    trials = [
        Trial(
            **{"number": number, "architecture": Architecture(structure={}, operators={}), "key": key, "budget": 1},
            **{"phase": phase, "turn": 0, "bracket": 0, "rung": 0, "slot": (0, 0, number), "parent": None},
            **{"seed": number, "proposal": Proposal(source="random")},
        )
        for number, (key, phase) in enumerate([("a", "both"), ("b", "both"), ("b", "confirm"), ("b", "confirm")])
    ]
    directory, scores = RunDirectory(tmp_path), iter([0.5, 0.9, 0.8, 0.7])
    for number in (0, 1):
        directory.trial(number).root.mkdir(parents=True)
        directory.trial(number).checkpoint.write_text("weights")

    def handler(payload: object, should_stop: object) -> dict[str, float]:
        return {"score": next(scores)}

    with InlineExecutor(lambda: handler, time.monotonic) as executor, Journal.resume(directory.journal)[0] as journal:
        Search(
            **{"run": directory, "optimizer": Script(trials), "executor": executor, "journal": journal},
            **{"history": History(), "observer": Silent(), "stop": Stop(), "out_of_time": lambda: False},
            **{"grace_s": 0.0, "keep_best": 2},
        ).work()

    assert [directory.trial(number).checkpoint.exists() for number in (0, 1)] == [True, True]
