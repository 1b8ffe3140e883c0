"""Search methods of a few lines, as published, with every parameter of the space searched jointly.

None of them uses what our engine knows of networks: two descriptions of one network are two architectures to them, and
one that cannot be trained is paid for. All look up at the largest budget alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.space import part
from searching.problem import Problem, Query, Steps

POPULATION = 20
SAMPLE = 5

MAX_DRAWS = 1000
"""Draws without a new architecture after which a space counts as used up."""

STEPS_IN_RANGE = 8
"""Neighbours of a value in a range, which has too many to try them all."""


def random_search(problem: Problem, seed: int) -> Steps:
    """Uniform draws, repeats included."""
    rng = np.random.default_rng(seed)
    while True:
        yield Query(architecture=problem.sample(rng), budget=problem.largest)


def evolution(problem: Problem, seed: int, *, repeats: bool) -> Steps:
    """Regularized evolution (Real et al. 2019): the oldest dies, the best of a sample has a child with one change.

    Population 20 and samples of 5, with which it does best on tables of this size. Without `repeats`, a child that was
    looked up before is drawn again.
    """
    rng = np.random.default_rng(seed)
    population: deque[tuple[float, Architecture]] = deque(maxlen=POPULATION)
    known: set[object] = set()
    while True:
        for _ in range(MAX_DRAWS):
            child = _child(problem, population, rng)
            if repeats or problem.identity(child) not in known:
                break
        else:
            return
        known.add(problem.identity(child))
        score = yield Query(architecture=child, budget=problem.largest)
        population.append((-np.inf if score is None else score, child))


def _child(problem: Problem, population: deque[tuple[float, Architecture]], rng: np.random.Generator) -> Architecture:
    if len(population) < POPULATION:
        return problem.sample(rng)
    sample = [population[int(i)] for i in rng.integers(len(population), size=SAMPLE)]
    parent = max(sample, key=lambda each: each[0])[1]
    return problem.space.edit(parent, "both", rng)


def local_search(problem: Problem, seed: int) -> Steps:
    """Hill climbing (White et al. 2021): try the neighbours in random order, move to the first that is better.

    A neighbour differs in one active parameter. Where none is better it starts again at a random architecture.
    What was looked up in this run is remembered and not paid for again.
    """
    rng = np.random.default_rng(seed)
    scores: dict[object, float] = {}

    def score_of(architecture: Architecture) -> Steps:
        if problem.identity(architecture) not in scores:
            score = yield Query(architecture=architecture, budget=problem.largest)
            scores[problem.identity(architecture)] = -np.inf if score is None else score

    used_up = 0
    while used_up < MAX_DRAWS:
        start = problem.sample(rng)
        used_up = used_up + 1 if problem.identity(start) in scores else 0
        here: Architecture | None = start
        while here is not None:
            yield from score_of(here)
            better = None
            for neighbour in neighbours(problem, here, rng):
                yield from score_of(neighbour)
                if scores[problem.identity(neighbour)] > scores[problem.identity(here)]:
                    better = neighbour
                    break
            here = better


def neighbours(problem: Problem, architecture: Architecture, rng: np.random.Generator) -> Iterator[Architecture]:
    """All that differ in one active parameter, in random order; of a range, some of its values."""
    values = part(architecture, "both")
    fresh = problem.space.sample_half("both", rng)
    changes = []
    for name, old in values.items():
        domain = problem.space.parameters[name].domain
        others = domain.choices or tuple(domain.sample(rng) for _ in range(STEPS_IN_RANGE))
        changes += [(name, new) for new in others if new != old]
    for i in rng.permutation(len(changes)):
        name, new = changes[int(i)]
        yield problem.space.complete({name: new}, values, fresh)
