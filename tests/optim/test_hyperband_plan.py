"""What Hyperband will run, before it runs."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hpbandster.optimizers import BOHB as STOCK
from hypothesis import given
from hypothesis import strategies as st
from toy_search import search_config

from nasflow_cli.core.search_config import BudgetConfig
from nasflow_cli.core.trial import HALVES
from nasflow_cli.optim.plan import BracketPlan, hyperband, planned_brackets, rung_budgets, search_phases, turn_phase

R81 = BudgetConfig(min=1, max=81, eta=3)


def test_the_brackets_of_81_epochs_are_those_of_hpbandster() -> None:
    assert hyperband(R81) == (
        BracketPlan(counts=(81, 27, 9, 3, 1), budgets=(1, 3, 9, 27, 81)),
        BracketPlan(counts=(27, 9, 3, 1), budgets=(3, 9, 27, 81)),  # the paper: 34, 11, 3, 1
        BracketPlan(counts=(9, 3, 1), budgets=(9, 27, 81)),  # the paper: 15, 5, 1
        BracketPlan(counts=(6, 2), budgets=(27, 81)),  # the paper: 8, 2
        BracketPlan(counts=(5,), budgets=(81,)),
    )


@pytest.mark.parametrize(("eta", "rungs"), [(2, 6), (3, 5), (4, 4), (5, 3)])
def test_the_brackets_are_what_hpbandsters_own_class_makes(eta: int, rungs: int) -> None:
    ladder = np.power(float(eta), np.arange(rungs))
    stock = SimpleNamespace(
        max_SH_iter=rungs, eta=eta, budgets=ladder, config_generator=SimpleNamespace(get_config=None)
    )
    made = [STOCK.get_next_iteration(stock, i, {"result_logger": None}) for i in range(rungs)]

    plans = hyperband(BudgetConfig(min=1, max=eta ** (rungs - 1), eta=eta))

    assert [list(plan.counts) for plan in plans] == [iteration.num_configs for iteration in made]
    assert [list(plan.budgets) for plan in plans] == [list(iteration.budgets) for iteration in made]


def test_promoted_children_pay_only_for_the_epochs_they_add() -> None:
    first = hyperband(R81)[0]

    assert first.num_trials == 121
    assert first.num_epochs() == 81 * 1 + 27 * 2 + 9 * 6 + 3 * 18 + 1 * 54
    assert first.num_epochs(lambda budget: budget - budget // 3) == 81 * 1 + 27 * 2 + 9 * 7 + 3 * 21 + 1 * 63


def test_a_ladder_that_does_not_divide_evenly_is_rounded() -> None:
    assert rung_budgets(BudgetConfig(min=2, max=15, eta=3)) == (2, 5, 15)


def test_equal_budgets_leave_one_rung() -> None:
    assert hyperband(BudgetConfig(min=7, max=7, eta=3)) == (BracketPlan(counts=(1,), budgets=(7,)),)


budgets = st.builds(
    lambda low, more, eta: BudgetConfig(min=low, max=low + more, eta=eta),
    st.integers(1, 40),
    st.integers(0, 400),
    st.integers(2, 6),
)


@given(budgets)
def test_every_ladder_rises_from_the_smallest_budget_to_the_largest(config: BudgetConfig) -> None:
    ladder = rung_budgets(config)

    assert ladder[-1] == config.max
    assert ladder[0] >= config.min
    assert all(low < high for low, high in itertools.pairwise(ladder))
    assert all(abs(budget - config.max / config.eta**k) <= 0.5 for k, budget in enumerate(reversed(ladder)))
    assert config.max / config.eta ** len(ladder) <= config.min + 0.5


@given(budgets)
def test_every_bracket_ends_at_the_largest_budget_and_never_grows(config: BudgetConfig) -> None:
    for plan in hyperband(config):
        assert plan.budgets[-1] == config.max
        assert len(plan.counts) == len(plan.budgets)
        assert all(high <= max(low // config.eta, 1) for low, high in itertools.pairwise(plan.counts))


def rungs(*budgets: int, **more: int) -> BudgetConfig:
    """Budgets as YAML gives them."""
    return BudgetConfig.model_validate_json(json.dumps({"rungs": budgets, **more}))


@pytest.mark.parametrize(("given_rungs", "eta"), [((12, 200), 17), ((3, 9, 27), 3), ((10, 11), 2), ((5,), 3)])
def test_where_rungs_are_given_each_of_a_bracket_costs_about_the_same(given_rungs: tuple[int, ...], eta: int) -> None:
    config = rungs(*given_rungs)

    assert config.eta == eta
    first = hyperband(config)[0]
    costs = [count * budget for count, budget in zip(first.counts, first.budgets, strict=True)]
    assert max(costs) <= 2 * min(costs)


def test_an_eta_beside_rungs_is_kept() -> None:
    assert rungs(12, 200, eta=3).eta == 3
    assert hyperband(rungs(12, 200, eta=3))[0].counts == (3, 1)


@given(budgets, st.integers(1, 3), st.integers(1, 2000))
def test_the_planned_brackets_fit_and_the_next_one_would_not(
    config: BudgetConfig, turn_brackets: int, trials: int
) -> None:
    planned = planned_brackets(config, turn_brackets, trials)
    used = sum(plan.num_trials for _, plan in planned)
    more = planned_brackets(config, turn_brackets, trials + 1000 * hyperband(config)[0].num_trials)

    assert used <= trials
    assert used + more[len(planned)][1].num_trials > trials


@given(budgets, st.integers(1, 3), st.integers(1, 1000), st.integers(0, 1000))
def test_more_trials_only_append_brackets(config: BudgetConfig, turn_brackets: int, trials: int, extra: int) -> None:
    fewer = planned_brackets(config, turn_brackets, trials)

    assert planned_brackets(config, turn_brackets, trials + extra)[: len(fewer)] == fewer


@pytest.mark.parametrize("turn_brackets", [1, 2, 3])
def test_turns_alternate_and_each_search_goes_through_its_own_round(turn_brackets: int) -> None:
    planned = planned_brackets(R81, turn_brackets, 5000)

    assert [turn for turn, _ in planned[: 4 * turn_brackets]] == [t for t in range(4) for _ in range(turn_brackets)]
    for phase in ("structure", "operators"):
        own = [plan for turn, plan in planned if turn_phase(turn, HALVES) == phase]
        assert own == [hyperband(R81)[i % 5] for i in range(len(own))]


def test_structures_go_first() -> None:
    assert [turn_phase(turn, HALVES) for turn in range(3)] == ["structure", "operators", "structure"]


def test_a_search_that_is_alone_takes_every_turn() -> None:
    assert [turn_phase(turn, ("operators",)) for turn in range(3)] == ["operators"] * 3


def test_a_joint_search_has_one_phase_unless_one_half_has_nothing_to_search() -> None:
    joint, alternate = (search_config(turns=turns) for turns in ("joint", "alternate"))

    phases = [search_phases(config, halves) for config in (joint, alternate) for halves in (HALVES, ("operators",))]

    assert phases == [("both",), ("operators",), HALVES, ("operators",)]


def test_fewer_trials_than_the_first_bracket_needs_plan_nothing() -> None:
    assert planned_brackets(R81, 1, 120) == []
