"""Whether what a space names can stand on the data: convolutions on images, linear layers on vectors.

Tries each operation on the meta device; computes nothing and trains nothing.
"""

from __future__ import annotations

import torch
from torch import nn

from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.nets.operations import Slot

_CHANNELS, _SIDE = 6, 16


def misfits(space: SpaceConfig, input_shape: tuple[int, ...]) -> list[str]:
    """One line for each setting that `input_shape`, (channels, height, width) or (features,), has no use for."""
    kind = "images" if len(input_shape) == 3 else "vectors"
    fitting = [name for name in OPERATIONS if _fits(name, len(input_shape))]
    lines = [
        f"space.{where}: {name!r} cannot be applied to {kind}; these can: {', '.join(fitting)}"
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
    return lines


def _named(space: SpaceConfig) -> list[tuple[str, str]]:
    """Every operation that the space names, once a place."""
    named = [("stem.operation", space.stem.operation)]
    named += [
        (f"cells.{cell}.operations", str(choice))
        for cell, config in space.cells.items()
        for choice in config.operations.choices
    ]
    return named + [(f"stages.{i}.transition", stage.transition) for i, stage in enumerate(space.stages)]


def _fits(name: str, num_dimensions: int) -> bool:
    slot = Slot(in_channels=_CHANNELS, channels=_CHANNELS, stride=1, activation=nn.Identity)
    try:
        with torch.no_grad(), torch.device("meta"):
            module = OPERATIONS[name].make(slot).eval()
            module(torch.empty(2, _CHANNELS, *[_SIDE] * (num_dimensions - 1)))
    except (RuntimeError, ValueError, IndexError):  # what torch raises for a tensor of other dimensions
        return False
    return True
