"""What Hyperband will run (Li et al. 2018, algorithm 1), known before anything runs. Plain values; no hpbandster here.

hpbandster's first rung is floor((s_max + 1) / (s + 1)) * eta ** s, where the paper takes one
ceiling around the whole; ours is hpbandster's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nasflow_cli.core.search_config import BudgetConfig, SearchConfig
from nasflow_cli.core.trial import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class BracketPlan:
    """One bracket: how many configurations run at each rung, and for how many epochs in all."""

    counts: tuple[int, ...]
    budgets: tuple[int, ...]

    @property
    def num_trials(self) -> int:
        """Trainings in the bracket, promotions included."""
        return sum(self.counts)

    def num_epochs(self, stem: Callable[[int], int] = int) -> int:
        """Epochs that the bracket pays for when promoted children go on from their checkpoints.

        `stem` says how many of a rung's epochs its promoted children go on from: all of them, if nothing is given.
        """
        before = [0, *map(stem, self.budgets[:-1])]
        paid = (budget - done for budget, done in zip(self.budgets, before, strict=True))
        return sum(count * epochs for count, epochs in zip(self.counts, paid, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatPlan:
    """How the best networks are confirmed: so many, each trained again so many times, from scratch to `budget`."""

    networks: int
    repeats: int
    budget: int

    @property
    def num_trials(self) -> int:
        """Trainings in all."""
        return self.networks * self.repeats

    @property
    def num_epochs(self) -> int:
        """Epochs in all."""
        return self.num_trials * self.budget


def rung_budgets(config: BudgetConfig) -> tuple[int, ...]:
    """The rungs as given, or the geometric ladder that ends at the largest: max / eta ** k, rounded, at least min."""
    if config.rungs is not None:
        return config.rungs
    budgets = [config.max]
    while True:
        lower = round(config.max / config.eta ** len(budgets))
        if lower < config.min or lower < 1 or lower >= budgets[0]:
            return tuple(budgets)
        budgets.insert(0, lower)


def hyperband(config: BudgetConfig) -> tuple[BracketPlan, ...]:
    """One round of brackets, the most exploratory first."""
    budgets = rung_budgets(config)
    s_max = len(budgets) - 1
    plans = []
    for s in range(s_max, -1, -1):
        first = ((s_max + 1) // (s + 1)) * config.eta**s
        counts = tuple(max(int(first * config.eta**-i), 1) for i in range(s + 1))
        plans.append(BracketPlan(counts=counts, budgets=budgets[s_max - s :]))
    return tuple(plans)


def search_phases(config: SearchConfig, searched: tuple[Phase, ...]) -> tuple[Phase, ...]:
    """The phases that take turns. `searched` names the halves that have something to search, at least one."""
    return ("both",) if config.turns == "joint" and len(searched) > 1 else searched


def turn_phase(turn: int, phases: tuple[Phase, ...]) -> Phase:
    """Whose turn it is. The search of structures begins; where there is one phase (`search_phases`), all are its."""
    return phases[turn % len(phases)]


def planned_brackets(config: BudgetConfig, turn_brackets: int, num_trials: int) -> list[tuple[int, BracketPlan]]:
    """The turn and plan of every bracket that fits whole into `num_trials` trials, in order.

    Each search goes through Hyperband's round on its own: its first bracket is the most exploratory one. The plan does
    not depend on the space: where only one half is searched, that search takes the turns of both.
    """
    plans, used = hyperband(config), 0
    chosen: list[tuple[int, BracketPlan]] = []
    while True:
        number = len(chosen)
        turn = number // turn_brackets
        own = (turn // 2) * turn_brackets + number % turn_brackets
        plan = plans[own % len(plans)]
        if used + plan.num_trials > num_trials:
            return chosen
        chosen.append((turn, plan))
        used += plan.num_trials


def planned_repeats(config: SearchConfig) -> RepeatPlan:
    """What follows the last bracket. Every bracket ends at the largest budget, with the counts of its last rung."""
    brackets = planned_brackets(config.budget, config.turn_brackets, config.trials)
    reach = sum(plan.counts[-1] for _, plan in brackets)
    networks = min(config.confirm.top, reach)
    return RepeatPlan(networks=networks, repeats=config.confirm.repeats, budget=config.budget.max)


def num_searched(config: SearchConfig) -> int:
    """Trials of all brackets, at most `search.trials`; the repeats that follow are left out."""
    brackets = planned_brackets(config.budget, config.turn_brackets, config.trials)
    return sum(plan.num_trials for _, plan in brackets)


def num_planned(config: SearchConfig) -> int:
    """Trainings of the whole search: of all brackets, and of the repeats that follow."""
    return num_searched(config) + planned_repeats(config).num_trials
