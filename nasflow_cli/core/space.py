"""A search space: what follows from its description. Parameters of both halves, decoding, completion, sampling, edits.

Which parameters an architecture has is never declared twice: `decode` reads the parameters it needs, and those that it
reads are the active ones. It knows no cost model and no density; those are handed architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nasflow_cli.core.architecture import Architecture, Half, Value
from nasflow_cli.core.cells import Read
from nasflow_cli.core.decode import Decoder, KnownCells
from nasflow_cli.core.domain import Domain
from nasflow_cli.core.graph import NetworkGraph, OperationFacts
from nasflow_cli.core.parameters import Parameter, declare
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.core.space_size import num_settings
from nasflow_cli.core.trial import HALVES, Phase, Side

if TYPE_CHECKING:
    import numpy as np


def part(architecture: Architecture, phase: Phase) -> Half:
    """What a search in this phase decides of an architecture: one half, or all of it."""
    if phase == "both":
        return {**architecture.structure, **architecture.operators}
    return architecture.structure if phase == "structure" else architecture.operators


class SearchSpace:
    """The members that a `space:` section describes."""

    def __init__(self, config: SpaceConfig, facts: Mapping[str, OperationFacts]) -> None:
        self.config = config
        self.facts = facts
        self._known = KnownCells()
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
        self._halves: dict[Phase, tuple[Parameter, ...]] = {
            half: tuple(p for p in self.parameters.values() if half in (p.half, "both")) for half in (*HALVES, "both")
        }

    def half(self, half: Phase) -> tuple[Parameter, ...]:
        """The searched parameters of one half, or of both, in the order in which they are declared."""
        return self._halves[half]

    @property
    def searched(self) -> tuple[Side, ...]:
        """The halves that have something to search; the search of any other takes no turns."""
        return tuple(half for half in HALVES if self.half(half))

    def size(self, half: Phase) -> int | None:
        """Number of settings of a half, each counted once for all that the other half may be; None if continuous."""
        return num_settings(self.half(half))

    def decode(self, read: Read) -> NetworkGraph:
        """Build the graph, calling `read` for every parameter that it depends on."""
        fixed = self._fixed
        every = lambda name: fixed[name] if name in fixed else read(name)  # noqa: E731
        return Decoder(self.config, self.facts, every, self._known).network()

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

        Decoder(self.config, self.facts, read, self._known).network()
        return used

    def member(self, *sources: Half) -> tuple[Architecture, NetworkGraph]:
        """The member whose parameters are taken from the first source that names them, and its graph.

        Raises KeyError when a parameter that turns out to be active is in no source.
        """
        used: dict[str, Value] = {}

        def read(name: str) -> Value:
            for source in sources:
                if name in source:
                    used[name] = source[name]
                    return source[name]
            raise KeyError(name)

        graph = self.decode(read)
        structure: dict[str, Value] = {}
        operators: dict[str, Value] = {}
        for name, value in used.items():
            (structure if self.parameters[name].half == "structure" else operators)[name] = value
        return Architecture(structure=structure, operators=operators), graph

    def complete(self, *sources: Half) -> Architecture:
        """The member whose parameters are taken from the first source that names them; see `member`."""
        return self.member(*sources)[0]

    def sample_half(self, half: Phase, rng: np.random.Generator) -> dict[str, Value]:
        """Draw every parameter of one half, or of both, active or not, uniformly."""
        return {parameter.name: parameter.domain.sample(rng) for parameter in self.half(half)}

    def sample_member(self, rng: np.random.Generator) -> tuple[Architecture, NetworkGraph]:
        """Draw a member, with its graph; constraints are not looked at."""
        return self.member(self.sample_half("structure", rng), self.sample_half("operators", rng))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a member; constraints are not looked at."""
        return self.sample_member(rng)[0]

    def edit(self, architecture: Architecture, half: Phase, rng: np.random.Generator) -> Architecture:
        """Change one active parameter of one half to another value; see `edit_member`."""
        return self.edit_member(architecture, half, rng)[0]

    def edit_member(
        self, architecture: Architecture, half: Phase, rng: np.random.Generator, places: int = 1
    ) -> tuple[Architecture, NetworkGraph]:
        """Change so many active parameters of a half (or of both), or all, to other values.

        What becomes active is drawn anew.
        """
        values = part(architecture, half)
        names = sorted(values)
        fresh = {**self.sample_half("structure", rng), **self.sample_half("operators", rng)}
        if not names:
            return architecture, self.graph(architecture)
        which = rng.choice(len(names), size=min(places, len(names)), replace=False)
        changed = {names[i]: self._another(names[i], values[names[i]], rng) for i in which}
        return self.member(changed, architecture.structure, architecture.operators, fresh)

    def _another(self, name: str, old: Value, rng: np.random.Generator) -> Value:
        """Another value of a parameter, which has several."""
        domain = self.parameters[name].domain
        if domain.choices:
            others = [choice for choice in domain.choices if choice != old]
            return others[int(rng.integers(len(others)))]
        new = old
        while new == old:
            new = domain.sample(rng)
        return new

    def __contains__(self, architecture: object) -> bool:
        """Whether exactly the active parameters are named, each with a value of its domain."""
        return isinstance(architecture, Architecture) and self.graph_of_member(architecture) is not None

    def graph_of_member(self, architecture: Architecture) -> NetworkGraph | None:
        """The graph; None unless exactly the active parameters are named, each with a value of its domain."""
        values = {**architecture.structure, **architecture.operators}
        for name, value in values.items():
            if name not in self.parameters or value not in self.parameters[name].domain:
                return None
        try:
            member, graph = self.member(values)
        except KeyError:
            return None
        return graph if member == architecture else None
