"""Small spaces with made-up objectives, and a way to play a search on them with several workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import nasflow_cli.nets  # noqa: F401  (registers the operations that the spaces name)
from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.domain import Domain, Kind
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.parameters import Condition, Parameter
from nasflow_cli.core.search_config import SearchConfig
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.core.trial import History, Proposal, Result, Trial
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.optim.alternating import Alternating
from nasflow_cli.optim.confirm import Confirming
from nasflow_cli.optim.density import Vector
from nasflow_cli.optim.proposals import Candidate, NoRanker, Outlook, Ranker

BODY = {"nodes": [1, 2, 3], "residual": [True, False], "operations": ["conv3x3", "conv1x1", "avg_pool3x3", "none"]}
ROOMY: dict[str, Any] = {
    "stem": {"width": [8, 16]},
    "cells": {"body": BODY},
    "stages": [{"cell": "body", "width": [8, 16, 32]}, {"cell": "body", "width": [16, 32], "stride": 2}],
    "activation": {"choices": ["relu", "gelu", "silu"], "per": "slot"},
}
"""Conditions in both halves, choices with and without order, slots that may be dead."""

RANGED: dict[str, Any] = {
    "stem": {"width": {"min": 4, "max": 400, "log": True}},
    "cells": {"body": {"nodes": 1, "operations": ["conv3x3", "conv1x1", "avg_pool3x3"]}},
    "stages": [{"cell": "body", "width": {"min": 8, "max": 900}}],
    "activation": {"choices": ["relu", "gelu"]},
}
"""Its structure is made of ranges alone."""

TINY: dict[str, Any] = {
    "stem": {"width": [8, 16]},
    "cells": {"body": {"nodes": 1, "operations": ["conv3x3", "conv1x1", "avg_pool3x3"]}},
    "stages": [{"cell": "body", "width": 16}],
}
"""Six members."""

LOPSIDED: dict[str, Any] = {
    "stem": {"width": [8, 16]},
    "cells": {"body": {"nodes": 4, "edges": "chain", "operations": BODY["operations"]}},
    "stages": [{"cell": "body", "width": 16}],
    "activation": {"choices": ["relu", "gelu", "silu"], "per": "slot"},
}
"""Two structures, and operators without end."""

STRUCTURE_ALONE: dict[str, Any] = {
    "stem": {"width": [8, 16]},
    "cells": {"body": {"nodes": [1, 2, 3, 4], "residual": [True, False], "operations": "conv3x3"}},
    "stages": [{"cell": "body", "width": [8, 16, 32]}],
}
OPERATORS_ALONE: dict[str, Any] = {
    "stem": {"width": 16},
    "cells": {
        "cell": {
            **{"nodes": 3, "edges": "all", "slots": "edges", "output": "last"},
            "operations": ["none", "skip", "conv1x1", "conv3x3", "avg_pool3x3"],
        }
    },
    "stages": [{"cell": "cell", "width": 16}],
}
"""Each has one half with nothing to search; the second is NAS-Bench-201's cell."""

QUICK: dict[str, Any] = {
    "trials": 40,
    "budget": {"min": 1, "max": 9, "eta": 3},
    "pool": 8,
    "edit_fraction": 0.3,
    "density": {"samples": 16, "min_points": 4},
}


def space_of(description: dict[str, Any]) -> SearchSpace:
    """A space, as YAML would describe it."""
    return SearchSpace(SpaceConfig.model_validate_json(json.dumps(description)), operation_facts())


def search_config(**changes: Any) -> SearchConfig:
    """A search that is over in a moment."""
    return SearchConfig.model_validate_json(json.dumps({**QUICK, **changes}))


def is_connected(graph: NetworkGraph) -> bool:
    """The only constraint."""
    return graph.is_connected


class Chooser:
    """Chooses in two slots of three, and takes the last of each pool: any choice will do. Keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: dict[int, tuple[list[Candidate], int]] = {}

    def outlook(self, history: History, number: int) -> Outlook:
        """Choose or not, by the number."""
        if number % 3 == 0:
            return Outlook(why="bypass", fitted_on=7, correlation=0.5)
        return Outlook(why="predictor", chooses=True, fitted_on=8, correlation=0.5)

    def merits(self, pool: Sequence[Candidate], budget: int, history: History, number: int) -> Vector:
        """The more, the later it was shown."""
        before, _ = self.shown.get(number, ([], budget))
        self.shown[number] = ([*before, *pool], budget)
        return np.arange(len(before), len(before) + len(pool), dtype=np.float64)

    def predicted(self, candidate: Candidate, budget: int, history: History) -> float | None:
        """Any number, the same for the same candidate."""
        return float(int(candidate.key[:4], 16))


def optimizer(
    description: dict[str, Any] = ROOMY, *, seed: int = 0, ranker: Ranker | None = None, **changes: Any
) -> Alternating:
    """A search engine on one of the spaces."""
    return Alternating(search_config(**changes), seed, space_of(description), is_connected, ranker or NoRanker())


def merit(architecture: Architecture) -> float:
    """What an architecture is worth: each parameter adds a number of its own. Higher is better; no two are equal."""
    total = 0.0
    for name, value in {**architecture.structure, **architecture.operators}.items():
        total += np.random.default_rng(list(f"{name}={value}".encode())).normal()
    return float(total)


def score(trial: Trial) -> float:
    """What a trial scores: longer training is better, the order of architectures stays nearly the same."""
    noise = float(np.random.default_rng([trial.number, trial.budget]).normal())
    return merit(trial.architecture) + 0.3 * trial.budget + 0.05 * noise


def never(trial: Trial) -> bool:
    """No trial fails."""
    return False


def outcome(trial: Trial, fails: Callable[[Trial], bool] = never) -> Result:
    """The result of a trial."""
    if fails(trial):
        return Result(trial=trial.number, score=None, error="out of memory", error_kind="memory")
    return Result(trial=trial.number, score=score(trial))


def play(
    engine: Alternating | Confirming,
    *,
    history: History | None = None,
    workers: int = 1,
    order: int = 0,
    fails: Callable[[Trial], bool] = never,
    until: int | None = None,
) -> History:
    """Play a search to its end, or to so many trials; with several workers, results come in an arbitrary order."""
    history = History() if history is None else history
    rng = np.random.default_rng(order)
    while True:
        while len(history.pending()) < workers and len(history.trials) != until:
            trial = engine.ask(history)
            if trial is None:
                break
            history.asked(trial)
        running = history.pending()
        if not running:
            return history
        history.told(outcome(running[int(rng.integers(len(running)))], fails))


def bare_trial(number: int, slot: tuple[int, int, int], budget: int, architecture: Architecture | None = None) -> Trial:
    """A trial of which only slot and budget matter."""
    return Trial(
        number=number,
        architecture=architecture or Architecture(structure={}, operators={}),
        key=f"{number:016x}",
        budget=budget,
        seed=number,
        phase="structure",
        turn=0,
        bracket=slot[0],
        rung=slot[1],
        slot=slot,
        parent=None,
        proposal=Proposal(source="random"),
    )


def codes(*column: float | None) -> Vector:
    """One parameter's rows, shape (n, 1); None is inactive."""
    return np.array([[np.nan if entry is None else entry] for entry in column])


def choice_parameter(name: str, *choices: Any, ordered: bool = False, needs: Sequence[Condition] = ()) -> Parameter:
    """A parameter with countable choices."""
    kind: Kind = "ordinal" if ordered else "categorical"
    return Parameter(name=name, half="operators", domain=Domain(kind=kind, choices=choices), needs=tuple(needs))


def range_parameter(name: str, low: float = 0.0, high: float = 1.0, *, log: bool = False) -> Parameter:
    """A parameter that is any number of a range."""
    return Parameter(name=name, half="operators", domain=Domain(kind="float", low=low, high=high, log=log))
