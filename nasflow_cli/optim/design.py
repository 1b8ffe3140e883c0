"""Points that are spread evenly over a space, for the draws that no model chooses (Latin hypercube, McKay et al. 1979).

Of a few independent draws, some choices of a parameter have none and others half of them; whoever learns from those
takes luck for knowledge. Here each choice of each parameter comes once in as many points as it has choices, and each
stretch of a range once in as many as there are stretches, in an order of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.seeds import Purpose, derived_seed, generator

STRETCHES = 8
"""Parts of equal size that a range counts as."""


class EvenDesign:
    """A sequence of points without end, from a seed alone; each names every parameter, active or not."""

    def __init__(self, parameters: Sequence[Parameter], seed: int) -> None:
        self.parameters = tuple(parameters)
        self._seeds = [derived_seed(seed, i, Purpose.DESIGN) for i in range(len(self.parameters))]
        self._round = lru_cache(maxsize=10_000)(self._values)

    def point(self, number: int) -> dict[str, Value]:
        """Point `number`, counted from 0."""
        values: dict[str, Value] = {}
        for i, parameter in enumerate(self.parameters):
            length = len(parameter.domain.choices) or STRETCHES
            values[parameter.name] = self._round(i, number // length)[number % length]
        return values

    def _values(self, position: int, number: int) -> tuple[Value, ...]:
        """Round `number` of a parameter: each choice, or a place in each stretch, in random order."""
        domain = self.parameters[position].domain
        rng = generator(self._seeds[position], number, Purpose.DESIGN)
        if domain.choices:
            return tuple(domain.choices[i] for i in rng.permutation(len(domain.choices)))
        places = (rng.permutation(STRETCHES) + rng.random(STRETCHES)) / STRETCHES
        return tuple(domain.from_unit(float(place)) for place in places)
