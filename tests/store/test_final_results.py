from __future__ import annotations

import json
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import pytest

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.store.files import make_directory
from nasflow_cli.store.final_results import FinalResult, FinalTraining, final_trainings, longest_of, write_result
from nasflow_cli.store.run_directory import RunDirectory

RESULT = FinalResult(
    **{"trial": 3, "key": "a", "epochs": 9, "number": 0, "seed": 11, "test_accuracy": 0.5, "test_loss": 1.5},
    **{"train_loss": 1.25, "num_train": 80, "num_test": 20, "params": 7, "flops": 9, "gpu": False, "seconds": 2.5},
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with two seeds of one final training, one of a longer one, and one of another network."""
    directory = RunDirectory(tmp_path)
    for result in (
        replace(RESULT, number=1, test_accuracy=0.75),
        RESULT,
        replace(RESULT, epochs=27, test_accuracy=0.25, gpu=True),
        replace(RESULT, trial=12, key="b", epochs=81),
    ):
        make_directory(directory.final_training(result.trial, result.epochs, result.number).root)
        write_result(directory, result)
    return directory


def test_what_was_written_is_read_by_trial_epochs_and_seed(run: RunDirectory) -> None:
    found = final_trainings(run)

    assert [(each.trial, each.epochs, [r.number for r in each.results]) for each in found] == [
        (3, 9, [0, 1]),
        (3, 27, [0]),
        (12, 81, [0]),
    ]
    assert found[0].results == (RESULT, replace(RESULT, number=1, test_accuracy=0.75))
    assert found[1].results[0].gpu


def test_a_result_of_before_there_were_notes_has_none(run: RunDirectory) -> None:
    path = run.final_training(3, 9, 1).result
    value = json.loads(path.read_text())
    del value["notes"]
    path.write_text(json.dumps(value))

    assert [result.notes for result in final_trainings(run)[0].results] == [(), ()]


def test_mean_and_spread_are_over_the_seeds_and_one_seed_has_no_spread(run: RunDirectory) -> None:
    two, one, _ = final_trainings(run)

    assert (two.mean, two.spread) == (0.625, pytest.approx(0.125 * 2**0.5))
    assert (one.mean, one.spread) == (0.25, None)


def test_the_longest_training_of_a_network_counts_whatever_it_scored(run: RunDirectory) -> None:
    chosen = longest_of(final_trainings(run), "a")

    assert chosen is not None
    assert (chosen.epochs, chosen.mean) == (27, 0.25)
    assert longest_of(final_trainings(run), "c") is None


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", '{"schema_version": 2}', "[1]", "[" * 100_000),
        *(json.dumps({**RESULT.to_json(), name: value}) for name in ("params", "test_loss") for value in (inf, nan)),
    ],
    ids=range(9),
)
def test_a_damaged_result_is_named(run: RunDirectory, content: str) -> None:
    path = run.final_training(3, 9, 1).result
    path.write_text(content)

    with pytest.raises(RunDirectoryError, match=r"seed1/result\.json is damaged"):
        final_trainings(run)


def test_a_run_without_final_trainings_has_none(tmp_path: Path) -> None:
    assert final_trainings(RunDirectory(tmp_path)) == []
    with pytest.raises(ValueError, match="at least one"):
        FinalTraining(trial=0, key="a", epochs=1, results=())
