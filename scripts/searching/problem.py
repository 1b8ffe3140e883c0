"""What every method is given, and how what it does is counted: one table, one space, one account.

A method is a generator: it yields what it wants to know and is sent the score, so that no method can look anything up
without paying. A look-up pays its whole budget in epochs: each budget's score in a table is of a training of its own.
What an architecture costs does not depend on whether it was looked up before. Refuses experiments without a table.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import numpy as np

from nasflow_cli.assemble import Experiment
from nasflow_cli.core.architecture import Architecture, Value
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.evaluator_config import TEST_METRIC
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.train.table import NotInTableError, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The wish to know the score of an architecture at a budget (epochs)."""

    architecture: Architecture
    budget: int


Steps = Generator[Query, float | None, None]
"""What a method does: queries out, scores in. None: there is no score, which is paid for all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A look-up that was paid for: the epochs paid up to and with it, and what the table says."""

    row: int | None
    budget: int
    paid: int
    score: float | None
    test: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An experiment over a table. `budgets` are those that may be paid, rising; `limit` is how many epochs in all.

    A score is that of the table, scaled; higher is better.
    """

    experiment: Experiment
    table: Table
    budgets: tuple[int, ...]
    evaluations: int

    @classmethod
    def of(cls, experiment: Experiment, budgets: tuple[int, ...], evaluations: int) -> Problem:
        """Raises ConfigError when the experiment has no table, or its table lacks a budget."""
        if experiment.table is None:
            raise ConfigError("evaluator: this experiment has no table of results to compare methods on")
        known = experiment.table.config.scores
        missing = [budget for budget in budgets if budget not in known]
        if missing:
            raise ConfigError(f"evaluator.scores: the table has no score at budget {missing[0]} (it has {list(known)})")
        return cls(experiment=experiment, table=experiment.table, budgets=budgets, evaluations=evaluations)

    @property
    def space(self) -> SearchSpace:
        """The space that is searched."""
        return self.experiment.space

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is searched, both halves."""
        return self.space.half("both")

    @property
    def largest(self) -> int:
        """The budget by which architectures are judged in the end."""
        return self.budgets[-1]

    @property
    def limit(self) -> int:
        """Epochs that a run may pay: those of `evaluations` look-ups at the largest budget."""
        return self.evaluations * self.largest

    def best_score(self) -> float:
        """The highest score at the largest budget. Raises ConfigError when there is none."""
        column = self.table.numbers[self.table.config.scores[self.largest]]
        rows = [row for row, number in enumerate(column) if number is not None]
        if not rows:
            raise ConfigError(f"evaluator.scores: the table has no score at budget {self.largest}")
        return max(self.table.score(row, self.largest) for row in rows)

    def worst_score(self) -> float:
        """The lowest score at any budget: what methods are told that must be told a number where there is none."""
        numbers = [n for b in self.budgets for n in self.table.numbers[self.table.config.scores[b]] if n is not None]
        return min(numbers) * self.table.config.scale

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw each parameter uniformly."""
        return self.space.sample(rng)

    def identity(self, architecture: Architecture) -> tuple[tuple[str, Value], ...]:
        """What is the same for two architectures with equal active parameters, as a peer can tell."""
        return (*architecture.structure.items(), *architecture.operators.items())

    def member(self, values: Mapping[str, Value], rng: np.random.Generator) -> Architecture:
        """The member with these values. What another package left out although it is active is drawn."""
        return self.space.complete(values, self.space.sample_half("both", rng))

    def look_up(self, query: Query, paid: int) -> Evaluation:
        """What the table says, with `paid` epochs paid before."""
        budget, row, score, test = query.budget, None, None, None
        if budget not in self.budgets:
            raise ValueError(f"a method asked for budget {budget}, which is none of {self.budgets}")
        try:
            row = self.table.row(self.space.settings(query.architecture))
            score = self.table.score(row, budget)
            test = self.table.metrics(row, budget).get(TEST_METRIC)
        except NotInTableError:
            pass  # a training that fails: paid, and without a score
        return Evaluation(row=row, budget=budget, paid=paid + budget, score=score, test=test)


def drive(problem: Problem, steps: Steps) -> list[Evaluation]:
    """Let a method look up until the next look-up would exceed the limit, or it is done."""
    done: list[Evaluation] = []
    paid = 0
    try:
        query = next(steps)
        while paid + query.budget <= problem.limit:
            done.append(problem.look_up(query, paid))
            paid = done[-1].paid
            query = steps.send(done[-1].score)
    except StopIteration:
        pass  # it has nothing left to propose
    finally:
        steps.close()
    return done


Start = Callable[[Problem, int], Steps]
"""A method: a problem and a seed in, its steps out."""
