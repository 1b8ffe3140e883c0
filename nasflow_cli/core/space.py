"""A search space: what follows from its description. Parameters of both halves, decoding, completion, sampling, edits.

Which parameters an architecture has is never declared twice: `decode` reads the parameters it needs, and those that it
reads are the active ones. It knows no cost model and no density; those are handed architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nasflow_cli.core.architecture import Architecture, Half, Value
from nasflow_cli.core.decode import Decoder, Read
from nasflow_cli.core.domain import Domain
from nasflow_cli.core.graph import NetworkGraph, OperationFacts
from nasflow_cli.core.parameters import Parameter, declare, values_of
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.core.trial import Phase

if TYPE_CHECKING:
    import numpy as np

HALVES: tuple[Phase, Phase] = ("structure", "operators")


class SearchSpace:
    """The members that a `space:` section describes."""

    def __init__(self, config: SpaceConfig, facts: Mapping[str, OperationFacts]) -> None:
        self.config = config
        self._facts = facts
        self._fixed: dict[str, Value] = {}
        self.parameters: dict[str, Parameter] = {}
        self.domains: dict[str, Domain] = {}
        """Of every parameter, those with one value included."""
        for parameter in declare(config, facts):
            self.domains[parameter.name] = parameter.domain
            if parameter.domain.is_fixed:
                self._fixed[parameter.name] = parameter.domain.choices[0]
            else:
                self.parameters[parameter.name] = parameter

    def half(self, half: Phase) -> tuple[Parameter, ...]:
        """The searched parameters of one half, in the order in which they are declared."""
        return tuple(parameter for parameter in self.parameters.values() if parameter.half == half)

    @property
    def searched(self) -> tuple[Phase, ...]:
        """The halves that have something to search; the search of any other takes no turns."""
        return tuple(half for half in HALVES if self.half(half))

    def size(self, half: Phase) -> int | None:
        """Number of settings of one half, each counted once for all that the other half may be; None if continuous."""
        total = 1
        parameters = self.half(half)
        parents = {parameter.needs[0] for parameter in parameters if parameter.needs and parameter.needs[0]}
        for parameter in parameters:
            size = parameter.domain.size
            if size is None:
                return None
            if parameter.needs is not None and parameter.needs[0] in self.parameters:
                continue
            total *= size if parameter.name not in parents else self._size_below(parameter, parameters)
        return total

    def _size_below(self, parent: Parameter, parameters: tuple[Parameter, ...]) -> int:
        total = 0
        for value in values_of(parent.domain):
            product = 1
            for child in parameters:
                if child.needs is not None and child.needs[0] == parent.name and value in child.needs[1]:
                    product *= child.domain.size or 1
            total += product
        return total

    def decode(self, read: Read) -> NetworkGraph:
        """Build the simplified graph, calling `read` for every parameter that it depends on."""
        return Decoder(
            self.config, self._facts, lambda name: self._fixed[name] if name in self._fixed else read(name)
        ).network()

    def graph(self, architecture: Architecture) -> NetworkGraph:
        """The graph of a member. Raises KeyError when the architecture lacks a parameter that it needs."""
        values = {**architecture.structure, **architecture.operators}
        return self.decode(values.__getitem__)

    def settings(self, architecture: Architecture) -> dict[str, Value]:
        """Every parameter that the member depends on, also if it has one value. Raises KeyError as `graph` does."""
        values = {**self._fixed, **architecture.structure, **architecture.operators}
        used: dict[str, Value] = {}

        def read(name: str) -> Value:
            used[name] = values[name]
            return used[name]

        Decoder(self.config, self._facts, read).network()
        return used

    def complete(self, *sources: Half) -> Architecture:
        """The member whose parameters are taken from the first source that names them.

        Raises KeyError when a parameter that turns out to be active is in no source.
        """
        used: dict[str, Value] = {}

        def read(name: str) -> Value:
            for source in sources:
                if name in source:
                    used[name] = source[name]
                    return source[name]
            raise KeyError(name)

        self.decode(read)
        halves: dict[Phase, dict[str, Value]] = {"structure": {}, "operators": {}}
        for name, value in used.items():
            halves[self.parameters[name].half][name] = value
        return Architecture(structure=halves["structure"], operators=halves["operators"])

    def sample_half(self, half: Phase, rng: np.random.Generator) -> dict[str, Value]:
        """Draw every parameter of one half, active or not, uniformly."""
        return {parameter.name: parameter.domain.sample(rng) for parameter in self.half(half)}

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a member; constraints are not looked at."""
        return self.complete(self.sample_half("structure", rng), self.sample_half("operators", rng))

    def edit(self, architecture: Architecture, half: Phase, rng: np.random.Generator) -> Architecture:
        """Change one active parameter of one half to another value; what becomes active by it is drawn anew."""
        names = sorted(getattr(architecture, half))
        fresh = {**self.sample_half("structure", rng), **self.sample_half("operators", rng)}
        if not names:
            return architecture
        name = names[int(rng.integers(len(names)))]
        domain, old = self.parameters[name].domain, getattr(architecture, half)[name]
        if domain.choices:
            others = [choice for choice in domain.choices if choice != old]
            new: Value = others[int(rng.integers(len(others)))]
        else:
            new = old
            while new == old:
                new = domain.sample(rng)
        return self.complete({name: new}, architecture.structure, architecture.operators, fresh)

    def __contains__(self, architecture: object) -> bool:
        """Whether exactly the active parameters are named, each with a value of its domain."""
        if not isinstance(architecture, Architecture):
            return False
        values = {**architecture.structure, **architecture.operators}
        for name, value in values.items():
            if name not in self.parameters or value not in self.parameters[name].domain:
                return False
        try:
            return self.complete(values) == architecture
        except KeyError:
            return False
