"""The parameters that a space description has, each with its half, its domain and the parameter it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.domain import Domain, categorical
from nasflow_cli.core.graph import OperationFacts
from nasflow_cli.core.space_config import CellConfig, SpaceConfig
from nasflow_cli.core.trial import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One searched dimension. `needs` names a parameter of the same half and the values at which this one exists."""

    name: str
    half: Phase
    domain: Domain
    needs: tuple[str, tuple[Value, ...]] | None = None


def cell_edges(config: CellConfig, num_nodes: int) -> list[tuple[int, int]]:
    """The edges (i, j) that a cell of so many nodes can have; node 0 is its input."""
    first = (lambda j: j - 1) if config.edges == "chain" else (lambda j: 0)
    return [(i, j) for j in range(1, num_nodes + 1) for i in range(first(j), j)]


def is_searched(config: CellConfig, node: int) -> bool:
    """Whether the edges into a node are searched. The first node has only the input to read."""
    return config.edges == "free" and node > 1


def values_of(domain: Domain) -> list[Value]:
    """All values of a domain that can be counted."""
    return list(domain.choices) if domain.choices else list(range(int(domain.low), int(domain.high) + 1))


def declare(config: SpaceConfig, facts: Mapping[str, OperationFacts]) -> Iterator[Parameter]:
    """Every parameter of the largest network, structure first; those with one value included."""
    yield Parameter(name="stem.width", half="structure", domain=config.stem.width)
    used = {stage.cell for stage in config.stages}
    for name, cell in config.cells.items():
        if name in used:
            yield from _cell_structure(name, cell)
    for position, stage in enumerate(config.stages):
        yield Parameter(name=f"stages.{position}.depth", half="structure", domain=stage.depth)
        yield Parameter(name=f"stages.{position}.width", half="structure", domain=stage.width)
    slots = list(_slots(config, used))
    for slot, operations in slots:
        if operations is not None:
            yield Parameter(name=f"{slot}.operation", half="operators", domain=operations)
    for kind, needed in (("activation", "activated"), ("initialisation", "weighted")):
        yield from _shared_or_per_slot(config, kind, slots, {name for name in facts if getattr(facts[name], needed)})


def _shared_or_per_slot(
    config: SpaceConfig, kind: str, slots: list[tuple[str, Domain | None]], users: set[str]
) -> Iterator[Parameter]:
    """Declare the activations or initialisations, at the granularity that the user named."""
    domain, per = getattr(config, kind).choices, getattr(config, kind).per
    if per == "network":
        yield Parameter(name=kind, half="operators", domain=domain)
        return
    if per == "stage":
        for position in range(len(config.stages)):
            yield Parameter(name=f"stages.{position}.{kind}", half="operators", domain=domain)
        return
    for slot, operations in slots:
        choices = operations.choices if operations else ()
        with_it = tuple(choice for choice in choices if choice in users)
        needs = (f"{slot}.operation", with_it) if len(with_it) < len(choices) else None
        if with_it or operations is None:
            yield Parameter(name=f"{slot}.{kind}", half="operators", domain=domain, needs=needs)


def _cell_structure(name: str, cell: CellConfig) -> Iterator[Parameter]:
    yield Parameter(name=f"{name}.nodes", half="structure", domain=cell.nodes)
    sizes = values_of(cell.nodes)
    for i, j in cell_edges(cell, int(max(sizes))):
        if is_searched(cell, j):
            needs = (f"{name}.nodes", tuple(size for size in sizes if int(size) >= j))
            domain = categorical(False, True)
            yield Parameter(name=f"{name}.{i}-{j}.edge", half="structure", domain=domain, needs=needs)
    yield Parameter(name=f"{name}.residual", half="structure", domain=cell.residual)


def _slots(config: SpaceConfig, used: set[str]) -> Iterator[tuple[str, Domain | None]]:
    """Every slot of the largest network and what may stand in it (None: the classifier)."""
    yield "stem", categorical(config.stem.operation)
    for name, cell in config.cells.items():
        if name in used:
            num_nodes = max(int(size) for size in values_of(cell.nodes))
            if cell.slots == "nodes":
                slots = [f"{name}.{j}" for j in range(1, num_nodes + 1)]
            else:
                slots = [f"{name}.{i}-{j}" for i, j in cell_edges(cell, num_nodes)]
            yield from ((slot, cell.operations) for slot in slots)
    for position, stage in enumerate(config.stages):
        yield f"stages.{position}.transition", categorical(stage.transition)
    yield "head", None
