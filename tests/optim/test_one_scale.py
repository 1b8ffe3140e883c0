"""Scores of several budgets on the scale of the largest."""

from __future__ import annotations

import numpy as np
import pytest

from nasflow_cli.optim.fidelity import on_one_scale


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
