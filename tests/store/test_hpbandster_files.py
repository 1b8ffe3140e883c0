from __future__ import annotations

import json
from pathlib import Path

import pytest
from hpbandster.core.result import Result as HpbandsterResult
from hpbandster.core.result import json_result_logger, logged_results_to_HBS_result

from nasflow_cli.core.trial import History, Proposal
from nasflow_cli.store.hpbandster_files import write_hpbandster_files
from nasflow_cli.store.run_directory import RunDirectory

CONFIG = {"structure.cells": 2, "structure.wide": True, "operators.op": "conv3x3", "operators.rate": 0.5}


@pytest.fixture
def history(trial_of, result_of, history_from) -> History:
    """Three slots at 1 epoch of which one fails, two of them promoted to 3, a fourth still running."""
    return history_from(
        (trial_of(0), result_of(0, 0.6)),
        (trial_of(1, proposal=Proposal(source="density")), result_of(1, 0.7, started=110.0, finished=112.0)),
        (trial_of(2), result_of(2, None)),
        (trial_of(3, slot=(0, 0, 0), parent=0, budget=3, rung=1), result_of(3, 0.8, metrics={"params": 9.0})),
        (trial_of(4, slot=(0, 0, 1), parent=1, budget=3, rung=1), result_of(4, 0.75)),
        (trial_of(5, slot=(1, 0, 0), bracket=1), None),
    )


def told_to(history: History, folder: Path) -> HpbandsterResult:
    """What hpbandster reads of a history."""
    run = RunDirectory(folder)
    write_hpbandster_files(run, history)
    return logged_results_to_HBS_result(str(run.hpbandster))


@pytest.fixture
def opened(history: History, tmp_path: Path) -> HpbandsterResult:
    return told_to(history, tmp_path)


def test_the_incumbent_is_the_best_at_the_largest_budget(opened: HpbandsterResult) -> None:
    assert opened.get_incumbent_id() == (0, 0, 0)


def test_every_result_is_a_run(opened: HpbandsterResult) -> None:
    assert (len(opened.get_all_runs()), len(opened.get_all_runs(only_largest_budget=True))) == (5, 3)


def test_a_promoted_slot_has_its_losses_at_both_budgets(opened: HpbandsterResult) -> None:
    assert [(run.budget, run.loss) for run in opened.get_runs_by_id((0, 0, 0))] == [(1, -0.6), (3, -0.8)]


def test_the_learning_curves_of_promoted_slots_are_read(opened: HpbandsterResult) -> None:
    assert opened.get_learning_curves()[(0, 0, 1)] == [[(1, -0.7), (3, -0.75)]]


def test_repeats_of_the_best_stay_out_since_a_slot_has_one_run_a_budget(
    history: History, trial_of, result_of, tmp_path: Path
) -> None:
    history.asked(trial_of(6, slot=(0, 0, 0), budget=3, phase="confirm", seed=8))
    history.told(result_of(6, 0.1))

    assert len(told_to(history, tmp_path).get_all_runs()) == 5
    assert told_to(history, tmp_path).get_incumbent_id() == (0, 0, 0)


def test_a_failed_trial_has_no_loss_but_its_error(opened: HpbandsterResult) -> None:
    (run,) = opened.get_runs_by_id((0, 0, 2))
    assert (run.loss, run.error_logs) == (None, "it broke")


def test_time_stamps_count_from_the_first(opened: HpbandsterResult) -> None:
    stamps = opened.get_runs_by_id((0, 0, 1))[0].time_stamps
    assert stamps == {"submitted": 10.0, "started": 10.0, "finished": 12.0}


def test_every_slot_has_its_configuration_and_how_it_was_picked(opened: HpbandsterResult) -> None:
    configs = opened.get_id2config_mapping()
    assert {slot: value["config_info"]["model_based_pick"] for slot, value in configs.items()} == {
        (0, 0, 0): False,
        (0, 0, 1): True,
        (0, 0, 2): False,
        (1, 0, 0): False,
    }
    assert configs[(1, 0, 0)]["config"] == CONFIG


def test_the_metrics_stand_in_the_info(opened: HpbandsterResult) -> None:
    info = opened.get_runs_by_id((0, 0, 0))[-1].info
    assert info == {"params": 9.0, "trial": 3, "score": 0.8, "seconds": 2.0}


def test_the_lines_are_those_that_hpbandsters_logger_writes(history: History, tmp_path: Path) -> None:
    class Job:
        id = (0, 0, 2)
        kwargs = {"config": CONFIG, "budget": 1}  # noqa: RUF012
        timestamps = {"submitted": 100.0, "started": 100.0, "finished": 102.0}  # noqa: RUF012
        result = None
        exception = "it broke"

    run = RunDirectory(tmp_path)
    write_hpbandster_files(run, history)
    json_result_logger(str(tmp_path / "theirs"))(Job())
    assert (run.hpbandster / "results.json").read_text().splitlines()[2] == (
        (tmp_path / "theirs" / "results.json").read_text().rstrip("\n")
    )
    ours = json.loads((run.hpbandster / "configs.json").read_text().splitlines()[2])
    theirs = json.loads((tmp_path / "theirs" / "configs.json").read_text())
    assert ours[:2] == theirs[:2]


def test_writing_again_replaces_what_was_there(history: History, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    write_hpbandster_files(run, history)
    before = (run.hpbandster / "results.json").read_bytes()
    write_hpbandster_files(run, history)
    assert (run.hpbandster / "results.json").read_bytes() == before
