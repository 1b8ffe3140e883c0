"""Scores of several budgets on the scale of the largest."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow_cli.optim.fidelity import OneScale

Scores = Mapping[str, Mapping[int, float | None]]


def scale_of(scores: Scores) -> OneScale:
    """A scale that was told these scores, one configuration after the other, budgets as they stand."""
    scale = OneScale()
    for name, by_budget in scores.items():
        for budget, score in by_budget.items():
            scale.tell(name, budget, score)
    return scale


def on_one_scale(scores: Scores) -> dict[object, float]:
    scale = scale_of(scores)
    return dict(zip(scale.names, scale.values().tolist(), strict=True))


def by_definition(scores: Scores) -> dict[str, float]:
    """The same, from all scores at once."""
    budgets = sorted({budget for by_budget in scores.values() for budget in by_budget})
    lift = dict.fromkeys(budgets, 0.0)
    for lower, higher in reversed(list(itertools.pairwise(budgets))):
        both = [(each.get(lower), each.get(higher)) for each in scores.values()]
        gains = [high - low for low, high in both if low is not None and high is not None]
        lift[lower] = lift[higher] + (float(np.median(gains)) if gains else 0.0)
    found = {}
    for name, each in scores.items():
        score = each[max(each)]
        found[name] = -np.inf if score is None else score + lift[max(each)]
    return found


def test_a_low_budget_is_lifted_by_the_median_gain() -> None:
    values = on_one_scale({"a": {1: 0.5, 3: 0.6}, "b": {1: 0.4, 3: 0.7}, "c": {1: 0.3, 3: 1.2}, "d": {1: 0.2}})

    assert values["d"] == pytest.approx(0.2 + 0.3)  # gains: 0.1, 0.3 and 0.9
    assert (values["a"], values["b"], values["c"]) == (0.6, 0.7, 1.2)


def test_lifts_add_up_over_budgets() -> None:
    values = on_one_scale({"a": {1: 0.0, 3: 1.0, 9: 3.0}, "low": {1: 0.5}, "middle": {3: 0.5}})

    assert values == {"a": 3.0, "low": 0.5 + 1.0 + 2.0, "middle": 0.5 + 2.0}


def test_a_failure_at_the_largest_budget_is_worth_nothing() -> None:
    values = on_one_scale({"a": {1: 0.5, 3: None}, "b": {1: None}, "c": {1: 0.1, 3: 0.2}})

    assert values["a"] == values["b"] == -np.inf
    assert values["c"] == 0.2


def test_a_failure_has_no_part_in_the_gain() -> None:
    values = on_one_scale({"a": {1: 0.5, 3: None}, "b": {1: 0.1, 3: 0.2}, "c": {1: 0.3}})

    assert values["c"] == pytest.approx(0.4)


def test_budgets_that_no_configuration_shares_are_not_lifted() -> None:
    assert on_one_scale({"a": {1: 0.9}, "b": {3: 0.5}}) == {"a": 0.9, "b": 0.5}


def test_no_scores_have_no_values() -> None:
    assert on_one_scale({}) == {}
    assert OneScale().best(3) == []


results = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from([1, 3, 9]),
    st.one_of(st.none(), st.integers(-20, 20).map(float)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(results, min_size=10, max_size=40))
def test_told_one_by_one_in_any_order_and_told_again_it_is_what_all_results_at_once_give(
    told: list[tuple[str, int, float | None]],
) -> None:
    scale, scores = OneScale(), dict[str, dict[int, float | None]]()
    for name, budget, score in told:
        assert scale.tell(name, budget, score) == (name not in scores)
        scores.setdefault(name, {})[budget] = score

        assert dict(zip(scale.names, scale.values().tolist(), strict=True)) == by_definition(scores)
    assert list(scores) == scale.names
    assert len(scale) == len(scores)


def test_the_best_come_first_of_equals_the_earlier_and_failures_never() -> None:
    scale = scale_of({"a": {1: 0.5}, "b": {1: None}, "c": {1: 0.9}, "d": {1: 0.5}, "e": {1: 0.7}})

    assert scale.best(0) == []
    assert scale.best(3) == ["c", "e", "a"]
    assert scale.best(99) == ["c", "e", "a", "d"]
