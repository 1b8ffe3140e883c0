"""Operations: each entry makes the module of one slot. Weighted ones are activation, convolution, batch norm.

Declared beside each: `weighted` (has weights to initialise), `activated` (has an activation), `identity`, `zero`. An
operation of a user's own keeps its constructor's arguments as attributes, so that an exported network can name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import OperationFacts
from nasflow_cli.core.registry import OPERATIONS, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where an operation stands: channels in and out, stride, and what makes its activation."""

    in_channels: int
    channels: int
    stride: int
    activation: Callable[[], nn.Module]


def conv_bn(slot: Slot, kernel: int, *, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    """Activation, convolution that keeps the resolution at stride 1, batch norm."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(
        slot.in_channels, slot.channels, kernel, slot.stride, padding, dilation=dilation, groups=groups, bias=False
    )
    return nn.Sequential(slot.activation(), conv, nn.BatchNorm2d(slot.channels))


def separable(slot: Slot, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Activation, depthwise convolution, pointwise convolution, batch norm (Chollet 2017)."""
    padding = dilation * (kernel // 2)
    c = slot.in_channels
    depthwise = nn.Conv2d(c, c, kernel, slot.stride, padding, dilation=dilation, groups=c, bias=False)
    pointwise = nn.Conv2d(c, slot.channels, 1, bias=False)
    return nn.Sequential(slot.activation(), depthwise, pointwise, nn.BatchNorm2d(slot.channels))


class Zero(nn.Module):
    """Passes nothing on."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros of the input's shape."""
        return x.mul(0.0)


@OPERATIONS.register("none", zero=True)
def none(slot: Slot) -> nn.Module:
    """No connection."""
    return Zero()


@OPERATIONS.register("skip", identity=True)
def skip(slot: Slot) -> nn.Module:
    """The input as it is."""
    return nn.Identity()


@OPERATIONS.register("conv1x1", weighted=True, activated=True)
def conv1x1(slot: Slot) -> nn.Module:
    """1x1 convolution."""
    return conv_bn(slot, 1)


@OPERATIONS.register("conv3x3", weighted=True, activated=True)
def conv3x3(slot: Slot) -> nn.Module:
    """3x3 convolution."""
    return conv_bn(slot, 3)


@OPERATIONS.register("conv5x5", weighted=True, activated=True)
def conv5x5(slot: Slot) -> nn.Module:
    """5x5 convolution."""
    return conv_bn(slot, 5)


@OPERATIONS.register("sep_conv3x3", weighted=True, activated=True)
def sep_conv3x3(slot: Slot) -> nn.Module:
    """3x3 depthwise separable convolution."""
    return separable(slot, 3)


@OPERATIONS.register("sep_conv5x5", weighted=True, activated=True)
def sep_conv5x5(slot: Slot) -> nn.Module:
    """5x5 depthwise separable convolution."""
    return separable(slot, 5)


@OPERATIONS.register("dil_conv3x3", weighted=True, activated=True)
def dil_conv3x3(slot: Slot) -> nn.Module:
    """3x3 depthwise separable convolution, dilated by 2."""
    return separable(slot, 3, dilation=2)


@OPERATIONS.register("linear", weighted=True, activated=True)
def linear(slot: Slot, *, norm: str = "batch", dropout: float = 0.0) -> nn.Module:
    """Linear layer, batch norm, activation: behind the norm, so that a stem does not cut the raw features at zero."""
    layers: list[nn.Module] = [nn.Linear(slot.in_channels, slot.channels, bias=norm == "none")]
    if norm == "batch":
        layers.append(nn.BatchNorm1d(slot.channels))
    layers.append(slot.activation())
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


@OPERATIONS.register("avg_pool3x3")
def avg_pool3x3(slot: Slot) -> nn.Module:
    """3x3 average pooling; padding is not counted."""
    return nn.AvgPool2d(3, slot.stride, 1, count_include_pad=False)


@OPERATIONS.register("max_pool3x3")
def max_pool3x3(slot: Slot) -> nn.Module:
    """3x3 max pooling."""
    return nn.MaxPool2d(3, slot.stride, 1)


def operation_facts() -> Mapping[str, OperationFacts]:
    """What every registered operation declared. Raises ConfigError for a fact that does not exist."""
    return {name: OperationFacts(**_known(name, OPERATIONS[name].facts)) for name in OPERATIONS}


def _known(operation: str, facts: Mapping[str, Any]) -> dict[str, bool]:
    known = [item.name for item in fields(OperationFacts)]
    for fact in facts:
        if fact not in known:
            raise ConfigError(
                f"operation {operation!r} is registered with {fact!r}, which is no fact{nearest(fact, known)} "
                f"(known: {', '.join(known)})"
            )
    return {fact: bool(value) for fact, value in facts.items()}
