"""Trials, results and the history that they form."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.trial import History, Proposal, Result, Trial


def trial(number: int, *, budget: int = 1, **changes: Any) -> Trial:
    made: dict[str, Any] = {
        "number": number,
        "architecture": Architecture(structure={"b": 2, "a": True}, operators={"o": "conv", "x": 0.5}),
        "key": f"{number:016x}",
        "budget": budget,
        "seed": 11,
        "phase": "structure",
        "turn": 0,
        "bracket": 1,
        "rung": 0,
        "slot": (1, 0, 2),
        "parent": None,
        "proposal": Proposal(
            source="density", ranked=5, correlation=0.25, predicted=-1.5, filtered=True, why="predictor"
        ),
    }
    return Trial(**{**made, **changes})


def told(*scores: tuple[int, float | None]) -> History:
    """A history of trials with these budgets and scores, told in this order; None is a failure."""
    history = History()
    for number, (budget, _) in enumerate(scores):
        history.asked(trial(number, budget=budget))
    for number, (_, score) in enumerate(scores):
        history.told(failed(number) if score is None else Result(trial=number, score=score))
    return history


def failed(number: int) -> Result:
    return Result(trial=number, score=None, error="out of memory", error_kind="memory")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"score": None}, "either a score or an error"),
        ({"score": 1.0, "error": "x", "error_kind": "nan"}, "either a score or an error"),
        ({"score": None, "error": "x"}, "an error has a kind"),
        ({"score": 1.0, "error_kind": "nan"}, "only an error has one"),
        ({"score": math.nan}, "a score is a finite number, not nan"),
        ({"score": math.inf}, "a score is a finite number, not inf"),
        ({"score": 10**400}, "a score is a finite number, not 1000"),
        ({"score": 1.0, "metrics": [1]}, "metrics are numbers by name"),
        ({"score": 1.0, "metrics": {"loss": "low"}}, "loss is a finite number, not 'low'"),
        ({"score": 1.0, "metrics": {"loss": math.nan}}, "loss is a finite number, not nan"),
        ({"score": 1.0, "epochs": "3"}, "the epochs of a result are a whole number, not '3'"),
        *(({"score": 1.0, name: None}, f"{name} is a finite number") for name in ("seconds", "started", "finished")),
    ],
)
def test_a_result_is_either_a_finite_score_or_an_error_with_its_kind(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Result(trial=0, **fields)


def test_a_trial_trains_for_at_least_one_epoch() -> None:
    with pytest.raises(ValueError, match="a budget is at least 1, not 0"):
        trial(0, budget=0)


@pytest.mark.parametrize("parent", [3, 4])
def test_a_parent_comes_before_its_child(parent: int) -> None:
    with pytest.raises(ValueError, match="a parent comes before its child"):
        trial(3, parent=parent)


@pytest.mark.parametrize("original", [trial(5, parent=2), trial(0, proposal=Proposal(source="random"))])
def test_a_trial_comes_back_from_the_text_of_its_json(original: Trial) -> None:
    assert Trial.from_json(json.loads(json.dumps(original.to_json()))) == original


@pytest.mark.parametrize(
    "original", [failed(3), Result(trial=1, score=0.5, seconds=1.5, epochs=2, started=3.0, metrics={"params": 7.0})]
)
def test_a_result_comes_back_from_the_text_of_its_json(original: Result) -> None:
    assert Result.from_json(json.loads(json.dumps(original.to_json()))) == original


@pytest.mark.parametrize("lost", ["key", "slot", "structure", "proposal"])
def test_a_trial_that_lacks_a_field_is_not_read(lost: str) -> None:
    value = trial(0).to_json()
    del value[lost]
    with pytest.raises(KeyError):
        Trial.from_json(value)


def test_an_architecture_does_not_depend_on_the_order_it_was_named_in() -> None:
    forth = Architecture(structure={"a": 1, "b": 2}, operators={})
    back = Architecture(structure={"b": 2, "a": 1}, operators={})
    assert json.dumps(forth.to_json()) == json.dumps(back.to_json())


@pytest.mark.parametrize("number", [0, 2])
def test_a_trial_out_of_turn_is_refused(number: int) -> None:
    history = told((1, 0.5))
    with pytest.raises(ValueError, match=f"trial {number} asked, but 1 is next"):
        history.asked(trial(number))


@pytest.mark.parametrize("number", [-1, 1])
def test_a_result_of_a_trial_that_was_never_asked_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="which was never asked"):
        told((1, 0.5)).told(Result(trial=number, score=0.1))


def test_a_second_result_of_a_trial_is_refused() -> None:
    with pytest.raises(ValueError, match="a second result for trial 0"):
        told((1, None)).told(Result(trial=0, score=0.1))


def test_what_is_refused_leaves_the_history_as_it_was() -> None:
    history = told((1, 0.5))
    with pytest.raises(ValueError, match="second"):
        history.told(Result(trial=0, score=0.1))
    assert (len(history.events), history.results[0].score) == (2, 0.5)


def test_trials_without_a_result_are_pending_in_the_order_they_were_asked() -> None:
    history = History()
    for number in range(4):
        history.asked(trial(number))
    history.told(Result(trial=2, score=0.1))
    history.told(failed(0))
    assert [pending.number for pending in history.pending()] == [1, 3]


def test_scores_come_in_the_order_they_were_told_and_failures_have_none() -> None:
    history = History()
    for number in range(3):
        history.asked(trial(number))
    for result in (Result(trial=2, score=0.1), failed(0), Result(trial=1, score=0.2)):
        history.told(result)
    assert [(asked.number, result.score) for asked, result in history.scored()] == [(2, 0.1), (1, 0.2)]


def test_what_has_scored_stays_in_front_of_what_scores_later() -> None:
    history = told((1, 0.5), (1, None), (3, 0.4))
    before = list(history.scored())
    history.asked(trial(3))
    assert history.scored() == before
    history.told(Result(trial=3, score=0.9))
    assert history.scored()[:2] == before
    assert [(asked.number, result.trial) for asked, result in history.scored()] == [(0, 0), (2, 2), (3, 3)]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(1, 0.2), (1, 0.9), (1, 0.5)], 1),
        ([(1, 0.9), (9, 0.3), (3, 0.8)], 1),
        ([(3, 0.4), (3, 0.4), (3, 0.1)], 0),
        ([(1, 0.2), (9, None)], 0),
        ([(1, -0.5), (1, 0.0), (1, -0.1)], 1),
    ],
    ids=["highest", "larger budget first", "earliest of equals", "a failure is none", "negative"],
)
def test_the_best_is_the_highest_score_at_the_largest_budget(scores: list[tuple[int, float | None]], best: int) -> None:
    found = told(*scores).best()
    assert found is not None
    assert (found[0].number, found[1].trial) == (best, best)


@pytest.mark.parametrize("history", [History(), told((1, None))], ids=["empty", "all failed"])
def test_without_a_score_there_is_no_best(history: History) -> None:
    assert history.best() is None


@pytest.mark.parametrize(
    ("scores", "since"),
    [
        ([], 0),
        ([(1, 0.5)], 0),
        ([(1, 0.5), (1, 0.4), (1, 0.5), (1, None)], 2),  # an equal one is none better, a failure is no score
        ([(1, 0.5), (1, 0.4), (3, 0.1)], 0),  # the first at a larger budget is the best there
        ([(3, 0.5), (1, 0.9), (1, 0.8), (3, 0.4)], 1),  # smaller budgets do not count
        ([(3, 0.5), (3, 0.4), (3, 0.6)], 0),
    ],
)
def test_scores_since_the_best_are_counted_at_the_largest_budget(
    scores: list[tuple[int, float | None]], since: int
) -> None:
    assert told(*scores).since_best == since
