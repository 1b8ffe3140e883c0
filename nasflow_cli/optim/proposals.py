"""From two halves to candidates: what competes for a new slot. Every candidate is complete, feasible and new."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Protocol

import numpy as np

from nasflow_cli.core.architecture import Architecture, Half, Value
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.search_config import SearchConfig
from nasflow_cli.core.space import SearchSpace, part
from nasflow_cli.core.trial import History, Phase, Side, Source
from nasflow_cli.optim.bohb import HalfBOHB
from nasflow_cli.optim.density import Vector
from nasflow_cli.optim.design import EvenDesign

HELD_ROUNDS = 4
"""Rounds in which the other half is held; after so many without a candidate, both halves are drawn uniformly."""

MAX_ROUNDS = 100
"""Rounds without a single new feasible candidate after which a space counts as exhausted."""

MIN_UNIFORM = 64
"""Uniform draws in a round, however small the pool."""

PARENTS = 0.125
"""Candidates of most merit whose edits join a pool, as a share of it: so few that their edits come close to each."""

TWICE = 0.4
"""Share of edits that change two places, so that no single step that is worse stands in the way."""

ELSEWHERE = 1_000_003
"""How far on the next point of a design is tried where one will not do: farther than any search comes."""

NUM_FILLS = 8
"""Proposals of the other search from which slots are filled that the held half does not name."""

MAX_DRAWN = 5000
"""Draws that are remembered; once there are more, all are forgotten."""

NUM_SINGLES = 16
"""Draws of the density that are tried, best first, where one candidate is wanted."""


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
class Outlook:
    """Whether a ranker will make a choice, and `why`: in a word, as in `core.trial.Proposal`."""

    why: str
    chooses: bool = False
    fitted_on: int = 0
    correlation: float | None = None


class Ranker(Protocol):
    """Orders candidates before any is trained. Every method depends on its arguments alone."""

    def outlook(self, history: History, number: int) -> Outlook:
        """Say whether it will make the choice for trial `number`. Only then is a whole pool made for it."""
        ...

    def merits(self, pool: Sequence[Candidate], budget: int, history: History, number: int) -> Vector:
        """What decides between candidates for trial `number` at `budget`: shape (len(pool),); the most is best."""
        ...

    def predicted(self, candidate: Candidate, budget: int, history: History) -> float | None:
        """The score that it expects of what was chosen, whoever chose, so that it can be held to it later."""
        ...


class NoRanker:
    """Leaves every choice to the search."""

    def outlook(self, history: History, number: int) -> Outlook:
        """Choose nothing."""
        return Outlook(why="off")

    def merits(self, pool: Sequence[Candidate], budget: int, history: History, number: int) -> Vector:
        """Find all alike."""
        return np.zeros(len(pool))

    def predicted(self, candidate: Candidate, budget: int, history: History) -> float | None:
        """Expect nothing."""
        return None


@dataclass(frozen=True)
class _Draw:
    """An architecture that may be known or not feasible."""

    architecture: Architecture
    graph: NetworkGraph
    source: Source

    @cached_property
    def key(self) -> str:
        """The graph's key."""
        return self.graph.key()


_OTHER: Mapping[Phase, Side] = {"structure": "operators", "operators": "structure"}


class _Later(Mapping[str, Value]):
    """Values that are made when one of them is first read: most never are."""

    def __init__(self, make: Callable[[], Half]) -> None:
        self._make = make
        self.made: Half | None = None

    def _values(self) -> Half:
        if self.made is None:
            self.made = self._make()
        return self.made

    def __getitem__(self, name: str) -> Value:
        return self._values()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())


def _one_of(halves: Sequence[Half], rng: np.random.Generator) -> Half:
    return halves[int(rng.integers(len(halves)))]


class Proposer:
    """Makes pools of candidates for one phase at a time."""

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        searches: dict[Phase, HalfBOHB],
        is_feasible: Callable[[NetworkGraph], bool],
        seed: int,
    ) -> None:
        self.config = config
        self.space = space
        self.searches = searches
        self.is_feasible = is_feasible
        self.design = EvenDesign(space.half("both"), seed)
        self._drawn: dict[tuple[object, ...], _Draw] = {}

    def pool(
        self, phase: Phase, elites: Sequence[Architecture], known: set[str], rng: np.random.Generator
    ) -> list[Candidate]:
        """Up to `config.pool` candidates in random order. Raises ExhaustedError when there is none.

        A half with few members is soon used up beside the elites' other halves, long before the space is.
        """
        found: dict[str, Candidate] = {}
        for attempt in range(MAX_ROUNDS):
            draws = self._draws(phase, elites, rng) if attempt < HELD_ROUNDS else self._uniform(rng)
            for draw in draws:
                candidate = self._accepted(draw, known, found)
                if candidate is not None:
                    found[candidate.key] = candidate
            if found:
                pool = list(found.values())[: self.config.pool]
                return [pool[i] for i in rng.permutation(len(pool))]
        raise ExhaustedError

    def best(
        self,
        phase: Phase,
        elites: Sequence[Architecture],
        known: set[str],
        merits: Callable[[Sequence[Candidate]], Vector],
        rng: np.random.Generator,
    ) -> tuple[Candidate, int]:
        """The candidate of most merit, and how many were ranked. Raises ExhaustedError when there is none.

        A few draws of a large space hardly ever hold what a ranker would like best. So the pool is improved before the
        choice: `config.refinements` times, edits of those of most merit join it.
        """
        pool = self.pool(phase, elites, known, rng)
        values = merits(pool)
        num_parents = max(1, round(PARENTS * self.config.pool))
        for _ in range(self.config.refinements):
            parents = [pool[i].architecture for i in np.argsort(-values, kind="stable")[:num_parents]]
            edits = self._edited(phase, parents, known, {candidate.key for candidate in pool}, rng)
            if edits:
                pool += edits
                values = np.concatenate([values, merits(edits)])
        return pool[int(values.argmax())], len(pool)

    def _edited(
        self,
        phase: Phase,
        parents: Sequence[Architecture],
        known: set[str],
        ranked: set[str],
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """As many edits of the parents as a pool has candidates, less those that are known or ranked already."""
        found: dict[str, Candidate] = {}
        for _ in range(self.config.pool):
            candidate = self._accepted(self._edit(phase, parents, rng), known, ranked, found)
            if candidate is not None:
                found[candidate.key] = candidate
        return list(found.values())

    def one(self, phase: Phase, elites: Sequence[Architecture], known: set[str], rng: np.random.Generator) -> Candidate:
        """The candidate that is taken when no ranker chooses. Raises ExhaustedError when there is none.

        The first that is feasible and new, of one of the kinds that a pool is mixed from, each as often as its share:
        an edit of an elite; a random draw, as in BOHB (Falkner et al. 2018, algorithm 2); else the draw of the good
        density with the best ratio of good to bad.
        """
        for draw in self._singles(phase, elites, known, rng):
            candidate = self._accepted(draw(), known)
            if candidate is not None:
                return candidate
        raise ExhaustedError

    def _accepted(self, draw: _Draw, *known: Container[str]) -> Candidate | None:
        """The draw as a candidate, if it is new and feasible."""
        if any(draw.key in keys for keys in known) or not self.is_feasible(draw.graph):
            return None
        return Candidate(architecture=draw.architecture, graph=draw.graph, key=draw.key, source=draw.source)

    def _edit(self, phase: Phase, parents: Sequence[Architecture], rng: np.random.Generator) -> _Draw:
        parent = parents[int(rng.integers(len(parents)))]
        places = 2 if rng.random() < TWICE else 1
        return _Draw(*self.space.edit_member(parent, phase, rng, places), "edit")

    def _singles(
        self, phase: Phase, elites: Sequence[Architecture], known: set[str], rng: np.random.Generator
    ) -> Iterator[Callable[[], _Draw]]:
        """Draws in the order in which they are tried, each made only when it is.

        Random ones are points of an even design, a point a network that is known; where that one will not do, points
        that no other network has tried.
        """
        fills = self._fills(phase, rng)
        kind = rng.random() - self.config.random_fraction
        if 0 <= kind < self.config.edit_fraction and elites:
            for _ in range(NUM_SINGLES):
                yield partial(self._edit, phase, elites, rng)
        elif kind >= 0:
            for half in self.searches[phase].propose(NUM_SINGLES, rng):
                yield partial(self._completed, phase, half, "density", elites, fills, rng)
        for attempt in range(HELD_ROUNDS * MIN_UNIFORM):
            point = self.design.point(len(known) + attempt * ELSEWHERE)
            half = {p.name: point[p.name] for p in self.space.half(phase)} if elites else point
            yield partial(self._completed, phase, half, "random", elites, fills, rng)
        for _ in range((MAX_ROUNDS - HELD_ROUNDS) * MIN_UNIFORM):
            yield lambda: _Draw(*self.space.sample_member(rng), "random")

    def _fills(self, phase: Phase, rng: np.random.Generator) -> Callable[[], Sequence[Half]]:
        """Makes values for slots that the held half does not name: the other search is asked once, when one lacks."""
        other = _OTHER.get(phase)

        @cache
        def proposed() -> Sequence[Half]:
            if other is None:
                return [{}]
            found = self.searches[other].propose(NUM_FILLS, rng)
            return found or [self.space.sample_half(other, rng) for _ in range(NUM_FILLS)]

        return proposed

    def _completed(
        self,
        phase: Phase,
        half: Mapping[str, Value],
        source: Source,
        elites: Sequence[Architecture],
        fills: Callable[[], Sequence[Half]],
        rng: np.random.Generator,
    ) -> _Draw:
        """A half beside the other half of an elite; or both halves, beside nothing.

        A search draws the same again and again once it knows what is good; what was drawn before is not decoded again.
        """
        other = _OTHER.get(phase)
        held = part(elites[int(rng.integers(len(elites)))], other) if elites and other else {}
        # Types, because True equals 1.
        same = (phase, source, *half.values(), *map(type, half.values()), *held.items(), *map(type, held.values()))
        if same in self._drawn:
            return self._drawn[same]
        rest = _Later(lambda: {**self.space.sample_half("both", rng), **_one_of(fills(), rng)})
        draw = _Draw(*self.space.member(half, held, rest), source)
        if rest.made is None:  # otherwise it is one of several that begin alike
            if len(self._drawn) == MAX_DRAWN:
                self._drawn.clear()
            self._drawn[same] = draw
        return draw

    def _uniform(self, rng: np.random.Generator) -> list[_Draw]:
        count = max(self.config.pool, MIN_UNIFORM)
        return [_Draw(*self.space.sample_member(rng), "random") for _ in range(count)]

    def _draws(self, phase: Phase, elites: Sequence[Architecture], rng: np.random.Generator) -> list[_Draw]:
        count = self.config.pool
        fills = self._fills(phase, rng)
        num_edits = round(self.config.edit_fraction * count) if elites else 0
        num_random = max(round(self.config.random_fraction * count), 1)
        dense = self.searches[phase].propose(count - num_edits - num_random, rng)
        num_random = count - num_edits - len(dense)
        draws = [self._edit(phase, elites, rng) for _ in range(num_edits)]
        halves: list[tuple[dict[str, Value], Source]] = [(half, "density") for half in dense]
        halves += [(self.space.sample_half(phase, rng), "random") for _ in range(num_random)]
        draws += [self._completed(phase, half, source, elites, fills, rng) for half, source in halves]
        return draws
