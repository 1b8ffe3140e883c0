"""The parameters that a space description has, each with its half, its domain and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.cells import cell_edges, choices_of, is_searched, project_slot, slots_of
from nasflow_cli.core.domain import Domain, categorical
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import OperationFacts
from nasflow_cli.core.operation_set import OperationSet
from nasflow_cli.core.registry import nearest
from nasflow_cli.core.space_config import CellConfig, SpaceConfig
from nasflow_cli.core.trial import Side

Condition = tuple[str, tuple[Value, ...]]
"""A parameter's name and the values of it at which another parameter exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One searched dimension. It exists only where all `needs` hold; they name searched parameters of its own half."""

    name: str
    half: Side
    domain: Domain
    needs: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """A slot of the largest network. `operations` is None where something fixed stands."""

    name: str
    operations: OperationSet | None
    needs: tuple[Condition, ...] = ()
    fixed: tuple[str, ...] = ()
    """The operation of a slot without a choice; empty where one with weights stands in any case."""
    adapts: bool = True
    """Whether an operation that adapts can meet another shape there, so that it projects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlace:
    """Where a cell's parameters belong: their `prefix`, and what has to hold for the cell to exist."""

    prefix: str
    config: CellConfig
    transitions: tuple[str | None, ...]
    """What stands before the stages that the cell is in."""
    needs: tuple[Condition, ...] = ()

    def needs_of(self, node: int) -> tuple[Condition, ...]:
        """What has to hold for a node of the cell to exist."""
        sizes = self.config.nodes.values
        large = tuple(size for size in sizes if int(size) > node - self.config.inputs)
        return (*self.needs, (f"{self.prefix}.nodes", large))

    def projects(self, facts: Mapping[str, OperationFacts]) -> bool:
        """Whether anything may have to bring the cell's input to its shape."""
        return self.config.project is not None or self.config.join != "sum" or self._changes_shape(facts)

    def adapts(self, facts: Mapping[str, OperationFacts]) -> bool:
        """Whether what is chosen for a slot may have to change the width or the resolution."""
        project, join = self.config.project, self.config.join
        if join == "split" or (project is not None and project.per == "edge"):
            return join == "split"
        # A projection once a cell gives every input the width, but leaves a stride to what reads it.
        return self._changes_shape(facts) or (join == "concat" and project is None)

    def _changes_shape(self, facts: Mapping[str, OperationFacts]) -> bool:
        return any(name is None or not facts[name].weighted for name in self.transitions)


def cell_prefix(config: SpaceConfig, stage: int, layer: int) -> str:
    """The prefix of the parameters of the cell that stands at a layer of a stage."""
    name = config.stages[stage].cell
    per = config.cells[name].per
    return {"network": name, "stage": f"stages.{stage}.cell", "layer": f"stages.{stage}.layer{layer}"}[per]


def cell_places(config: SpaceConfig) -> list[CellPlace]:
    """Every cell with parameters of its own, in the order of the stages."""
    places: dict[str, CellPlace] = {}
    for number, stage in enumerate(config.stages):
        cell, depths = config.cells[stage.cell], [int(depth) for depth in stage.depth.values]
        for layer in range(max(depths) if cell.per == "layer" else 1):
            prefix = cell_prefix(config, number, layer)
            deep_enough = tuple(depth for depth in depths if depth > layer)
            needs = ((f"stages.{number}.depth", deep_enough),) if cell.per == "layer" else ()
            transitions = tuple(
                other.transition
                for position, other in enumerate(config.stages)
                if other.cell == stage.cell and (cell.per == "network" or position == number)
            )
            place = CellPlace(prefix=prefix, config=cell, transitions=transitions, needs=needs)
            places.setdefault(prefix, place)
    return list(places.values())


def declare(config: SpaceConfig, facts: Mapping[str, OperationFacts]) -> list[Parameter]:
    """Every parameter of the largest network, structure first; those with one value included.

    Raises ConfigError when a pattern under `halves` matches none.
    """
    places = cell_places(config)
    found = [*_structure(config, places), *_operators(config, places, facts)]
    return _simplified(_on_their_sides(found, config))


def _structure(config: SpaceConfig, places: Sequence[CellPlace]) -> Iterator[Parameter]:
    yield Parameter(name="stem.width", half="structure", domain=config.stem.width)
    for place in places:
        yield from _cell_structure(place)
    for number, stage in enumerate(config.stages):
        yield Parameter(name=f"stages.{number}.depth", half="structure", domain=stage.depth)
        yield Parameter(name=f"stages.{number}.width", half="structure", domain=stage.width)
    if config.head.width is not None:
        yield Parameter(name="head.width", half="structure", domain=config.head.width)


def _cell_structure(place: CellPlace) -> Iterator[Parameter]:
    cell, prefix = place.config, place.prefix
    first, last = cell.inputs, cell.inputs + int(max(cell.nodes.values)) - 1
    yield Parameter(name=f"{prefix}.nodes", half="structure", domain=cell.nodes, needs=place.needs)

    def parameter(name: str, node: int, domain: Domain) -> Parameter:
        return Parameter(name=f"{prefix}.{name}", half="structure", domain=domain, needs=place.needs_of(node))

    for i, j in cell_edges(cell, last - first + 1):
        if is_searched(cell, j):
            yield parameter(f"{i}-{j}.edge", j, categorical(False, True))
    if isinstance(cell.edges, int):
        for j in range(first, last + 1):
            yield parameter(f"{j}.inputs", j, categorical(*choices_of(cell, j)))
    if cell.output == "free":
        for j in range(last + 1):
            yield parameter(f"{j}-out.edge", max(j, first), categorical(False, True))
    else:
        yield Parameter(name=f"{prefix}.residual", half="structure", domain=cell.residual, needs=place.needs)


def _operators(
    config: SpaceConfig, places: Sequence[CellPlace], facts: Mapping[str, OperationFacts]
) -> Iterator[Parameter]:
    slots = list(_slots(config, places, facts))
    for slot in slots:
        if slot.operations is None:
            continue
        choice = f"{slot.name}.operation"
        yield Parameter(name=choice, half="operators", domain=slot.operations.choices, needs=slot.needs)
        for operation, arguments in slot.operations.arguments.items():
            for argument, domain in arguments.items():
                needs = (*slot.needs, (choice, (operation,)))
                name = f"{slot.name}.{operation}.{argument}"
                yield Parameter(name=name, half="operators", domain=domain, needs=needs)
    adapting = {name for name, fact in facts.items() if fact.adapts}
    active = {name for name, fact in facts.items() if fact.activated}
    weighted = {name for name, fact in facts.items() if fact.weighted}
    yield from _shared_or_per_slot(config, "activation", slots, (active, active | adapting))
    yield from _shared_or_per_slot(config, "initialisation", slots, (weighted, weighted | adapting))


def _shared_or_per_slot(
    config: SpaceConfig, kind: str, slots: list[_Slot], users: tuple[set[str], set[str]]
) -> Iterator[Parameter]:
    """Declare the activations or initialisations, at the granularity that the user named.

    `users` are the operations that have one of their own, and those together with what projects where shapes differ.
    """
    domain, per = getattr(config, kind).choices, getattr(config, kind).per
    if per == "network":
        yield Parameter(name=kind, half="operators", domain=domain)
        return
    if per == "stage":
        for number in range(len(config.stages)):
            yield Parameter(name=f"stages.{number}.{kind}", half="operators", domain=domain)
        return
    for slot in slots:
        if kind == "activation" and slot.name in _not_activated(config):
            continue
        choices = slot.operations.choices.choices if slot.operations else slot.fixed
        with_it = tuple(choice for choice in choices if choice in users[slot.adapts])
        needs = slot.needs
        if slot.operations is not None and len(with_it) < len(choices):
            needs = (*needs, (f"{slot.name}.operation", with_it))
        if with_it or not choices:
            yield Parameter(name=f"{slot.name}.{kind}", half="operators", domain=domain, needs=needs)


def _not_activated(config: SpaceConfig) -> set[str]:
    """Slots that have weights, but no activation."""
    stem = {"stem"} if config.activation.order == "before" else set()
    return stem if config.head_is_activated else stem | {"head"}


def _slots(config: SpaceConfig, places: Sequence[CellPlace], facts: Mapping[str, OperationFacts]) -> Iterator[_Slot]:
    yield _Slot(name="stem", operations=None, fixed=(config.stem.operation,))
    for place in places:
        cell, adapts = place.config, place.adapts(facts)
        for name, node in slots_of(place.prefix, cell, int(max(cell.nodes.values))):
            yield _Slot(name=name, operations=cell.operations, needs=place.needs_of(node), adapts=adapts)
        if place.projects(facts):
            yield _Slot(name=project_slot(place.prefix), operations=None, needs=place.needs)
    for number, stage in enumerate(config.stages):
        if stage.transition is not None:
            # One without weights changes the resolution alone, for which only an identity needs a projection.
            adapts, fixed = facts[stage.transition].identity, (stage.transition,)
            yield _Slot(name=f"stages.{number}.transition", operations=None, fixed=fixed, adapts=adapts)
    yield _Slot(name="head", operations=None)


def _on_their_sides(parameters: list[Parameter], config: SpaceConfig) -> list[Parameter]:
    """Move what `halves` names to the side that it names."""
    names = [parameter.name for parameter in parameters]
    sides: dict[str, Side] = {}
    patterns: list[tuple[Side, tuple[str, ...]]] = [
        ("structure", config.halves.structure),
        ("operators", config.halves.operators),
    ]
    for side, wanted in patterns:
        for pattern in wanted:
            matching = [name for name in names if fnmatchcase(name, pattern)]
            if not matching:
                raise ConfigError(
                    f"space.halves.{side}: no parameter is called {pattern!r}{nearest(pattern, names)} "
                    f"(known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''})"
                )
            sides.update(dict.fromkeys(matching, side))
    return [replace(parameter, half=sides.get(parameter.name, parameter.half)) for parameter in parameters]


def _simplified(parameters: list[Parameter]) -> list[Parameter]:
    """Leave out parameters that cannot exist, and conditions that always hold or speak of the other half."""
    known = {parameter.name: parameter for parameter in parameters}
    kept = []
    for parameter in parameters:
        needs, possible = [], True
        for name, values in parameter.needs:
            parent = known[name]
            choices = parent.domain.values
            if not set(values) & set(choices):
                possible = False
            elif parent.half == parameter.half and len(values) < len(choices):
                needs.append((name, values))
        if possible:
            kept.append(replace(parameter, needs=tuple(needs)))
    return kept
