"""Whether what a space names can stand on the data, and be made at all. Computes nothing and trains nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.operation_set import OperationSet
from nasflow_cli.core.registry import OPERATIONS, nearest
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.nets.operations import Slot, operation_facts

_CHANNELS = 8


def misfits(space: SpaceConfig, input_shape: Sequence[int]) -> list[str]:
    """One line for each setting that examples of `input_shape`, (channels, height, width) or (features,), cannot have.

    Arguments are tried where an operation refuses them with ConfigError, as an even kernel is.
    """
    kind = "images" if len(input_shape) == 3 else "vectors"
    facts = operation_facts()
    fitting = [name for name in facts if facts[name].takes in (kind, "any")]
    lines = [
        f"space.{where}: {name!r} cannot be applied to {kind}{nearest(name, fitting)} (these can: {', '.join(fitting)})"
        for where, name in _named(space)
        if name not in fitting
    ]
    if kind == "vectors":
        strides = {"stem": space.stem.stride} | {f"stages.{i}": stage.stride for i, stage in enumerate(space.stages)}
        lines += [
            f"space.{where}.stride: vectors have no resolution to halve; remove it"
            for where, stride in strides.items()
            if stride != 1
        ]
    for name, cell in space.cells.items():
        lines += _refused(f"space.cells.{name}.operations", cell.operations, kind == "vectors")
    return lines


def _named(space: SpaceConfig) -> Iterator[tuple[str, str]]:
    """Every operation that the space names, once a place."""
    yield "stem.operation", space.stem.operation
    for name, cell in space.cells.items():
        yield from ((f"cells.{name}.operations", str(choice)) for choice in cell.operations.choices.choices)
        if cell.project is not None:
            yield f"cells.{name}.project.operation", cell.project.operation
    for number, stage in enumerate(space.stages):
        if stage.transition is not None:
            yield f"stages.{number}.transition", stage.transition


def _refused(where: str, operations: OperationSet, vectors: bool) -> Iterator[str]:
    """What the operations themselves refuse of their arguments, each tried with the others at their defaults."""
    slot = Slot(in_channels=_CHANNELS, channels=_CHANNELS, stride=1, activation=nn.Identity, vectors=vectors)
    for operation, arguments in operations.arguments.items():
        for argument, domain in arguments.items():
            ends = [domain.low, domain.high] if domain.size is None else domain.values
            for value in ends:
                try:
                    with torch.device("meta"):
                        OPERATIONS[operation].make(slot, **{argument: value})
                except ConfigError as error:
                    yield f"{where}: {operation}.{argument}: {error}"
