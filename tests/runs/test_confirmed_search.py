"""A real search whose best networks are trained again before the winner is named (`search.confirm`)."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from tiny import CrashError, run, timeless, write_config

from nasflow_cli.cli import inspect
from nasflow_cli.core.trial import History
from nasflow_cli.store.journal import history_of, read_events
from nasflow_cli.store.run_directory import RunDirectory

CONFIRM = {"trials": 8, "predictor": {"enabled": False}, "confirm": {"top": 2, "repeats": 2}}


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished search of 8 trials and 4 repeats: (configuration, run directory)."""
    folder = tmp_path_factory.mktemp("confirmed")
    config = write_config(folder / "tiny.yaml", search=CONFIRM)
    ending = run(config, folder / "run")
    assert (ending.finished, ending.reason) == (True, "all brackets are finished, and the best 2 confirmed")
    return config, folder / "run"


def history_in(directory: Path) -> History:
    path = RunDirectory(directory).journal
    return history_of(read_events(path), path)


def test_the_repeats_are_trained_from_scratch_at_the_largest_budget(confirmed: tuple[Path, Path]) -> None:
    history = history_in(confirmed[1])

    repeats = history.trials[8:]
    assert [trial.phase for trial in repeats] == ["confirm"] * 4
    assert [history.results[trial.number].epochs for trial in repeats] == [3] * 4
    triples = {(trial.key, trial.budget, trial.seed) for trial in history.trials}
    assert len(triples) == len(history.trials) == 12  # invariant 6
    for key in {trial.key for trial in repeats}:
        losses = [history.results[t.number].metrics["train_loss"] for t in history.trials[6:] if t.key == key]
        assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("crash_after", [8, 10])
def test_interrupted_it_ends_as_if_it_had_never_been(
    confirmed: tuple[Path, Path], tmp_path: Path, crash_after: int
) -> None:
    with pytest.raises(CrashError):
        run(confirmed[0], tmp_path / "run", crash_after=crash_after)

    assert run(confirmed[0], tmp_path / "run").finished

    assert timeless(tmp_path / "run") == timeless(confirmed[1])


def test_the_winner_is_the_best_by_its_mean_and_its_checkpoint_is_kept(
    confirmed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    history = history_in(confirmed[1])
    by_key: dict[str, list[float]] = {}
    for trial in history.trials:
        if trial.budget == 3:
            by_key.setdefault(trial.key, []).append(history.results[trial.number].score or 0.0)
    means = {key: statistics.fmean(scores) for key, scores in by_key.items() if len(scores) == 3}

    leader = history.leader()

    assert leader is not None
    assert len(means) == 2
    assert (leader.trial.key, leader.mean) == (max(means, key=lambda key: means[key]), max(means.values()))
    assert not leader.trial.is_repeat
    assert RunDirectory(confirmed[1]).trial(leader.trial.number).checkpoint.exists()
    assert not any(RunDirectory(confirmed[1]).trial(number).checkpoint.exists() for number in range(8, 12))
    inspect.leaderboard(str(confirmed[1]))
    header, first = capsys.readouterr().out.splitlines()[:2]
    assert header.split()[2:5] == ["score", "spread", "seeds"]
    assert first.split()[2:5] == [f"{leader.mean:.4f}", f"{leader.spread:.4f}", "3"]
    inspect.status(str(confirmed[1]))
    assert "12 of 12 ended" in capsys.readouterr().out


def test_show_tells_of_a_confirmed_network_what_the_leaderboard_tells_and_which_trials_confirm_it(
    confirmed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    history = history_in(confirmed[1])
    leader = history.leader()
    assert leader is not None
    own = [trial.number for trial in history.trials if (trial.key, trial.budget) == (leader.trial.key, 3)]
    each = ", ".join(f"trial {number} {history.results[number].score:.4f}" for number in own)
    capsys.readouterr()

    for number in (None, own[-1]):  # the winner, and a repeat of it
        inspect.show(str(confirmed[1]), number)
        lines = capsys.readouterr().out.splitlines()
        assert f"network   score {leader.mean:.4f} +- {leader.spread:.4f}, mean of 3 seeds at epoch 3: {each}" in lines
        inspect.show(str(confirmed[1]), number, as_json=True)
        document = json.loads(capsys.readouterr().out)
        assert (document["mean"], document["spread"]) == (leader.mean, leader.spread)
        assert [seed["trial"] for seed in document["seeds"]] == own
    inspect.show(str(confirmed[1]), 0)
    assert "network " not in capsys.readouterr().out
