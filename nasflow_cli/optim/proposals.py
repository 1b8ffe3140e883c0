"""From two halves to candidates: what competes for a new slot. Every candidate is complete, feasible and new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nasflow_cli.core.architecture import Architecture, Value
from nasflow_cli.core.config import SearchConfig
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.trial import History, Phase, Source
from nasflow_cli.optim.bohb import HalfBOHB

HELD_ROUNDS = 4
"""Rounds in which the other half is held; after so many without a candidate, both halves are drawn uniformly."""

MAX_ROUNDS = 100
"""Rounds without a single new feasible candidate after which a space counts as exhausted."""

MIN_UNIFORM = 64
"""Uniform draws in a round, however small the pool."""


class ExhaustedError(Exception):
    """No candidate that is feasible and new could be found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A complete, feasible architecture that has not been trained, and how it was made."""

    architecture: Architecture
    graph: NetworkGraph
    key: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a ranker says of a pool. `chosen` is None when it leaves the choice to the search."""

    chosen: int | None
    why: str
    fitted_on: int = 0
    correlation: float | None = None
    predicted: tuple[float, ...] | None = None


class Ranker(Protocol):
    """Orders candidates before any is trained.

    `judge` depends on its arguments alone. It may say what it expects of each candidate (in units of the score, at
    `budget`) whether or not it makes the choice, so that it can be held to it later.
    """

    def judge(self, pool: Sequence[Candidate], budget: int, history: History, number: int) -> Judgement:
        """Judge a pool for trial `number`."""
        ...


_Draw = tuple[Architecture, NetworkGraph, Source]


class NoRanker:
    """Leaves every choice to the search."""

    def judge(self, pool: Sequence[Candidate], budget: int, history: History, number: int) -> Judgement:
        """Choose nothing."""
        return Judgement(chosen=None, why="off")


class Proposer:
    """Makes pools of candidates for one phase at a time."""

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        searches: dict[Phase, HalfBOHB],
        is_feasible: Callable[[NetworkGraph], bool],
    ) -> None:
        self.config = config
        self.space = space
        self.searches = searches
        self.is_feasible = is_feasible

    def pool(
        self, phase: Phase, elites: Sequence[Architecture], known: set[str], rng: np.random.Generator
    ) -> list[Candidate]:
        """Up to `config.pool` candidates in random order. Raises ExhaustedError when there is none.

        A half with few members is soon used up beside the elites' other halves, long before the space is.
        """
        found: dict[str, Candidate] = {}
        for attempt in range(MAX_ROUNDS):
            draws = self._draws(phase, elites, rng) if attempt < HELD_ROUNDS else self._uniform(rng)
            for architecture, graph, source in draws:
                key = graph.key()
                if key not in known and key not in found and self.is_feasible(graph):
                    found[key] = Candidate(architecture=architecture, graph=graph, key=key, source=source)
            if found:
                pool = list(found.values())[: self.config.pool]
                return [pool[i] for i in rng.permutation(len(pool))]
        raise ExhaustedError

    def choice(self, phase: Phase, pool: Sequence[Candidate], rng: np.random.Generator) -> int:
        """The candidate that is taken when no ranker chooses: the one with the best ratio of good to bad density.

        As in BOHB (Falkner et al. 2018, algorithm 2), a share of the choices stays random.
        """
        settings = [getattr(candidate.architecture, phase) for candidate in pool]
        ratios = self.searches[phase].log_ratios(settings)
        is_random = rng.random() < self.config.random_fraction
        return 0 if ratios is None or is_random else int(ratios.argmax())

    def _uniform(self, rng: np.random.Generator) -> list[_Draw]:
        count = max(self.config.pool, MIN_UNIFORM)
        return [(*self.space.sample_member(rng), "random") for _ in range(count)]

    def _draws(self, phase: Phase, elites: Sequence[Architecture], rng: np.random.Generator) -> list[_Draw]:
        other: Phase = "operators" if phase == "structure" else "structure"
        count = self.config.pool
        fills = self.searches[other].propose(8, rng) or [self.searches[other].random(rng) for _ in range(8)]
        num_edits = round(self.config.edit_fraction * count) if elites else 0
        num_random = max(round(self.config.random_fraction * count), 1)
        dense = self.searches[phase].propose(count - num_edits - num_random, rng)
        num_random = count - num_edits - len(dense)
        draws: list[_Draw] = []
        for _ in range(num_edits):
            elite = elites[int(rng.integers(len(elites)))]
            draws.append((*self.space.edit_member(elite, phase, rng), "edit"))
        halves: list[tuple[dict[str, Value], Source]] = [(half, "density") for half in dense]
        halves += [(self.searches[phase].random(rng), "random") for _ in range(num_random)]
        for half, source in halves:
            # Slots that the held half does not name take values from the other search.
            fill = fills[int(rng.integers(len(fills)))]
            held = getattr(elites[int(rng.integers(len(elites)))], other) if elites else {}
            rest = {**self.space.sample_half(phase, rng), **self.space.sample_half(other, rng)}
            draws.append((*self.space.member(half, held, fill, rest), source))
        return draws
