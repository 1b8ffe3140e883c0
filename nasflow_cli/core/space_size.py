"""How large a space is: exactly where that can be counted, by an estimate that says so elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.graph import OperationFacts
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.space_config import CellConfig, SpaceConfig, StageConfig
from nasflow_cli.core.trial import HALVES

if TYPE_CHECKING:
    import numpy as np

    from nasflow_cli.core.space import SearchSpace


def num_settings(parameters: Sequence[Parameter]) -> int | None:
    """Number of settings of parameters with conditions among them; None when one is continuous."""
    if any(parameter.domain.size is None for parameter in parameters):
        return None
    total = 1
    for group in _independent(parameters):
        total *= _size_of(group)
    return total


def _independent(parameters: Sequence[Parameter]) -> list[list[Parameter]]:
    """Groups that no condition ties together."""
    group_of = {parameter.name: {parameter.name} for parameter in parameters}
    for parameter in parameters:
        for name, _ in parameter.needs:
            if group_of[name] is not group_of[parameter.name]:
                merged = group_of[name] | group_of[parameter.name]
                group_of.update(dict.fromkeys(merged, merged))
    groups: dict[int, list[Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(id(group_of[parameter.name]), []).append(parameter)
    return list(groups.values())


def _size_of(group: list[Parameter]) -> int:
    """Settings of one group: its first parent takes each of its values, and what is left is counted."""
    parents = {name for parameter in group for name, _ in parameter.needs}
    root = next((parameter for parameter in group if parameter.name in parents and not parameter.needs), None)
    if root is None:
        total = 1
        for parameter in group:
            total *= parameter.domain.size or 1
        return total
    return sum(num_settings(_left(group, root, value)) or 0 for value in root.domain.values)


def _left(group: list[Parameter], root: Parameter, value: Value) -> list[Parameter]:
    """What exists of a group, and has to be set still, when its root has a value."""
    left = []
    for parameter in group:
        if parameter is not root and all(value in values for name, values in parameter.needs if name == root.name):
            needs = tuple(need for need in parameter.needs if need[0] != root.name)
            left.append(replace(parameter, needs=needs))
    # A parameter whose own parent does not exist at this value does not exist either.
    names = {parameter.name for parameter in left}
    while lost := [p.name for p in left if any(name not in names for name, _ in p.needs)]:
        left = [parameter for parameter in left if parameter.name not in lost]
        names = {parameter.name for parameter in left}
    return left


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Number of members. `exact`, or an estimate with a relative standard error; `count` None: continuous."""

    count: float | None
    exact: bool
    error: float = 0.0


def count_members(space: SearchSpace, rng: np.random.Generator, limit: int = 3000, descents: int = 300) -> Members:
    """Count the settings that differ in what is active, for both halves together.

    Exact where the halves do not depend on each other, or where there are at most `limit`; else estimated by the mean
    number of choices along random descents, which is unbiased (Knuth 1975).
    """
    sizes = [space.size(half) for half in HALVES]
    if any(size is None for size in sizes):
        return Members(count=None, exact=True)
    if halves_are_independent(space.config, space.facts):
        return Members(count=math.prod(size for size in sizes if size is not None), exact=True)
    found = [_descend(space, rng) for _ in range(descents)]
    mean = fmean(found)
    counted = _counted(space, limit) if mean < 3 * limit else None  # only where it may well be few enough
    if counted is not None:
        return Members(count=counted, exact=True)
    return Members(count=mean, exact=False, error=pstdev(found) / mean / math.sqrt(descents))


class _Open(Exception):  # noqa: N818  (it is no error)
    """A parameter was read that is not set yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _counted(space: SearchSpace, limit: int) -> int | None:
    """The members, one by one; None when there are more than `limit`."""
    total = 0
    waiting: list[dict[str, Value]] = [{}]
    while waiting:
        values = waiting.pop()

        def read(name: str, values: dict[str, Value] = values) -> Value:
            if name not in values:
                raise _Open(name)
            return values[name]

        try:
            space.decode(read)
            total += 1
        except _Open as opened:
            choices = space.parameters[opened.name].domain.values
            waiting.extend({**values, opened.name: choice} for choice in choices)
        if total + len(waiting) > limit:
            return None
    return total


def _descend(space: SearchSpace, rng: np.random.Generator) -> float:
    """The product of the numbers of choices that one random member was chosen from."""
    values: dict[str, Value] = {}
    product = 1.0

    def read(name: str) -> Value:
        nonlocal product
        if name not in values:
            domain = space.parameters[name].domain
            values[name] = domain.sample(rng)
            product *= domain.size or 1
        return values[name]

    space.decode(read)
    return product


def halves_are_independent(config: SpaceConfig, facts: Mapping[str, OperationFacts]) -> bool:
    """Whether what is active in one half is the same for all that the other may be. False where that is not certain."""
    used = {stage.cell: config.cells[stage.cell] for stage in config.stages}
    if not all(_has_fixed_slots(cell) for cell in used.values()):
        return False
    if any(cell.per == "layer" and not stage.depth.is_fixed for stage, cell in _placed(config)):
        return False
    one_each = config.activation.per == "network" or config.activation.choices.is_fixed
    if not one_each or not (config.initialisation.per == "network" or config.initialisation.choices.is_fixed):
        return False
    if not config.head_is_activated and not config.activation.choices.is_fixed:
        return False
    # What a `none` cuts off has no arguments to set, and an argument may stand on another side than its operation.
    cuts = config.prune and any(
        facts[str(name)].zero for cell in used.values() for name in cell.operations.choices.choices
    )
    moved = bool(config.halves.structure or config.halves.operators)
    return not ((cuts or moved) and any(cell.operations.arguments for cell in used.values()))


def _placed(config: SpaceConfig) -> list[tuple[StageConfig, CellConfig]]:
    return [(stage, config.cells[stage.cell]) for stage in config.stages]


def _has_fixed_slots(cell: CellConfig) -> bool:
    """Whether the same slots are alive in every wiring of the cell."""
    if not cell.nodes.is_fixed or cell.edges == "free" or cell.output == "free":
        return False
    return not isinstance(cell.edges, int) or cell.output == "all"
