"""Our engine, played in this process with a history and no journal, and the same with one part of it taken out."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from nasflow_cli import assemble
from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.optim.alternating import Alternating
from searching.problem import Problem, Query, Steps

Changes = dict[str, Any]
"""Settings of the `search` section; a dot leads into its sections."""

NEVER = 1_000_000_000
"""So many results that no model is ever made."""

ABLATIONS: dict[str, tuple[str, Changes]] = {
    "ours-joint": ("one search of both halves instead of turns", {"turns": "joint"}),
    "ours-alternate": ("turns, whatever the experiment says", {"turns": "alternate"}),
    "ours-no-predictor": ("the predictor off", {"predictor.enabled": False}),
    "ours-no-density": ("pools of random draws and edits alone", {"density.min_points": NEVER}),
    "ours-no-elites": ("nothing held, nothing edited", {"elites": 0}),
    "ours-one-elite": ("the best architecture alone is held and edited", {"elites": 1}),
    "ours-no-gate": ("the predictor chooses as soon as there is one", {
        "predictor.min_correlation": -1.0, "predictor.min_pairs": 1,
    }),
}  # fmt: skip


class Repeating(Alternating):
    """The engine without its memory: it may propose what was tried before."""

    def _follow(self, history: History) -> None:
        super()._follow(history)
        self._known.clear()


def engine(problem: Problem, seed: int, changes: Changes, kind: type[Alternating] = Alternating) -> Steps:
    """Ask, look up, tell. The budgets are the problem's, whatever the experiment says."""
    config = problem.experiment.config
    rungs = {"min": problem.budgets[0], "max": problem.largest, "rungs": problem.budgets}
    search = config.search.model_copy(
        update={
            "budget": config.search.budget.model_copy(update=rungs),
            "trials": problem.limit // problem.budgets[0] + 1,
        }
    )
    for setting, value in changes.items():
        section, _, name = setting.rpartition(".")
        update = {section: getattr(search, section).model_copy(update={name: value})} if section else {name: value}
        search = search.model_copy(update=update)
    config = config.model_copy(update={"seed": seed, "search": search})
    is_feasible = lru_cache(maxsize=100_000)(problem.experiment.is_feasible)
    yield from _played(kind(search, seed, problem.space, is_feasible, assemble.make_ranker(config, problem.space)))


def one_budget(problem: Problem, seed: int) -> Steps:
    """Our engine at the largest budget alone, paid from the same purse."""
    alone = replace(problem, budgets=(problem.largest,))
    yield from engine(alone, seed, {})


def _played(optimizer: Alternating) -> Steps:
    history = History()
    while (trial := optimizer.ask(history)) is not None:
        history.asked(trial)
        score = yield Query(architecture=trial.architecture, budget=trial.budget)
        history.told(_result(trial, score))


def _result(trial: Trial, score: float | None) -> Result:
    if score is not None:
        return Result(trial=trial.number, score=score, epochs=trial.budget)
    return Result(trial=trial.number, score=None, error="the table has no score", error_kind="exception")
