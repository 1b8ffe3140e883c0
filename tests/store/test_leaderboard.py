from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from nasflow_cli.core.trial import History
from nasflow_cli.store.leaderboard import leaderboard_csv, leaderboard_json, leaderboard_rows, write_leaderboard
from nasflow_cli.store.run_directory import RunDirectory

FIELDS = [
    *("rank", "trial", "key", "score", "spread", "seeds", "budget", "params", "flops", "seconds", "phase"),
    *("structure", "operators", "metrics"),
]


@pytest.fixture
def history(trial_of, result_of, history_from) -> History:
    """Two networks promoted from 1 to 3 epochs, of which one fails there; a third one, a failure, one running."""
    return history_from(
        (trial_of(0, key="a"), result_of(0, 0.6, seconds=1.0)),
        (trial_of(1, key="b"), result_of(1, 0.7, seconds=2.0)),
        (trial_of(2, key="c"), result_of(2, 0.9, seconds=4.0)),
        (trial_of(3, key="d"), result_of(3, None)),
        (trial_of(4, key="a", parent=0, budget=3), result_of(4, 0.5, seconds=8.0, metrics={"params": 12.0})),
        (trial_of(5, key="b", parent=1, budget=3), result_of(5, None, seconds=16.0)),
        (trial_of(6, key="e"), None),
    )


def test_the_largest_budget_comes_first_then_the_best_score(history: History) -> None:
    ranking = [(row.rank, row.key, row.trial, row.budget, row.score) for row in leaderboard_rows(history)]
    assert ranking == [(1, "a", 4, 3, 0.5), (2, "c", 2, 1, 0.9), (3, "b", 1, 1, 0.7)]


def test_the_first_row_is_the_best_of_the_history(history: History) -> None:
    trial, result = history.best()
    row = leaderboard_rows(history)[0]
    assert (row.trial, row.score) == (trial.number, result.score)


def test_of_equal_scores_the_earlier_trial_leads(trial_of, result_of, history_from) -> None:
    history = history_from(*((trial_of(number), result_of(number, 0.5)) for number in range(3)))
    assert [row.trial for row in leaderboard_rows(history)] == [0, 1, 2]


@pytest.fixture
def confirmed(trial_of, result_of, history_from) -> History:
    """Three networks at the largest budget: a and b are trained twice again, of which one of b fails; c is not."""
    again = {"phase": "confirm", "budget": 3}
    return history_from(
        (trial_of(0, key="a", budget=3), result_of(0, 0.9)),
        (trial_of(1, key="b", budget=3), result_of(1, 0.8)),
        (trial_of(2, key="c", budget=3), result_of(2, 0.7)),
        (trial_of(3, key="a", seed=1, **again), result_of(3, 0.5)),
        (trial_of(4, key="b", seed=2, **again), result_of(4, 0.6)),
        (trial_of(5, key="a", seed=3, **again), result_of(5, 0.1)),
        (trial_of(6, key="b", seed=4, **again), result_of(6, None)),
    )


def test_a_network_trained_from_several_seeds_has_their_mean_and_spread(confirmed: History) -> None:
    rows = {row.key: row for row in leaderboard_rows(confirmed)}

    assert (rows["a"].trial, rows["a"].seeds, rows["a"].score) == (0, 3, pytest.approx(0.5))
    assert rows["a"].spread == pytest.approx(0.4)
    assert (rows["b"].trial, rows["b"].seeds, rows["b"].score) == (1, 2, pytest.approx(0.7))
    assert rows["a"].phase == "structure"


def test_the_mean_ranks_and_a_single_score_comes_after_those_of_several_seeds(confirmed: History) -> None:
    assert [row.key for row in leaderboard_rows(confirmed)] == ["b", "a", "c"]
    leader = confirmed.leader()
    assert leader is not None
    assert (leader.trial.number, leader.scores) == (1, (0.8, 0.6))
    assert confirmed.best() == (confirmed.trials[1], confirmed.results[1])


def test_seconds_are_summed_over_the_trials_that_one_went_on_from(trial_of, result_of, history_from) -> None:
    history = history_from(
        (trial_of(0, key="a"), result_of(0, seconds=1.0)),
        (trial_of(1, key="z"), result_of(1, seconds=100.0)),
        (trial_of(2, key="a", parent=0, budget=3), result_of(2, seconds=2.0)),
        (trial_of(3, key="a", parent=2, budget=9), result_of(3, seconds=4.0)),
    )
    assert leaderboard_rows(history)[0].seconds == 7.0


def test_counts_are_whole_numbers_or_unknown(history: History) -> None:
    row = leaderboard_rows(history)[0]
    assert (row.params, type(row.params), row.flops) == (12, int, None)


def test_the_json_rows_have_exactly_the_promised_fields(history: History) -> None:
    document = json.loads(json.dumps(leaderboard_json(leaderboard_rows(history))))
    assert list(document) == ["schema_version", "rows"]
    assert document["rows"][0] == {
        **{
            "rank": 1,
            "trial": 4,
            "key": "a",
            "score": 0.5,
            "spread": None,
            "seeds": 1,
            "budget": 3,
            "params": 12,
            "flops": None,
            "seconds": 9.0,
        },
        **{"phase": "structure", "structure": {"cells": 2, "wide": True}},
        "operators": {"op": "conv3x3", "rate": 0.5},
        "metrics": {"params": 12.0},
    }
    assert all(list(row) == FIELDS for row in document["rows"])


def test_the_csv_holds_what_the_json_holds(history: History) -> None:
    rows = leaderboard_rows(history)
    table = list(csv.DictReader(io.StringIO(leaderboard_csv(rows))))
    assert list(table[0]) == FIELDS
    assert [json.loads(line["operators"]) for line in table] == [dict(row.operators) for row in rows]
    assert [(float(line["score"]), line["flops"]) for line in table] == [(row.score, "") for row in rows]


def test_an_empty_history_has_a_header_and_no_rows() -> None:
    assert leaderboard_csv(leaderboard_rows(History())) == ",".join(FIELDS) + "\n"


def test_both_files_are_written(history: History, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    write_leaderboard(run, history)
    rows = leaderboard_rows(history)
    assert json.loads(run.leaderboard_json.read_text()) == json.loads(json.dumps(leaderboard_json(rows)))
    assert run.leaderboard_csv.read_text() == leaderboard_csv(rows)
