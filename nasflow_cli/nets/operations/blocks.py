"""Blocks with a residual branch of their own: MobileNet's, ResNet's and RegNet's, NAS-Bench-201's.

The norm that ends a branch is marked with `closes_branch`, so that an initialisation can let the block start as its
shortcut. Refuses arguments that leave no channel (ConfigError).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.operations.slot import (
    Slot,
    chain,
    common_groups,
    conv_bn,
    depthwise_conv,
    pointwise_conv,
    same_padding,
)


class Residual(nn.Module):
    """The sum of what a shortcut and a branch make of the input. Without a shortcut the input itself is added."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut(x) + branch(x), which have to have one shape."""
        result: Tensor = (x if self.shortcut is None else self.shortcut(x)) + self.branch(x)
        return result


class SqueezeExcitation(nn.Module):
    """Each channel times a gate that the image's average decides (Hu et al. 2018). `gate` gives (n, c, 1, 1)."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Return the input's shape."""
        result: Tensor = x * self.gate(x)
        return result


@OPERATIONS.register("mbconv", weighted=True, activated=True)
def mbconv(slot: Slot, *, kernel: int = 3, expansion: int = 6, se: bool = False) -> nn.Module:
    """Inverted residual of MobileNet (Sandler et al. 2018; with `se` squeeze-excitation, Howard et al. 2019).

    Convolution, norm, activation inside and no activation at its end, as published, whatever the slot's order. The
    input is added where shapes agree. `expansion` is the factor of the inner width; at 1 nothing expands.
    """
    if expansion < 1:
        raise ConfigError(f"mbconv with an expansion of {expansion} has no channels; take a whole number from 1")
    inner = slot.in_channels * expansion
    layers: list[nn.Module] = []
    if expansion > 1:
        layers += [pointwise_conv(slot.in_channels, inner), nn.BatchNorm2d(inner), slot.activation()]
    layers += [depthwise_conv(inner, kernel, slot.stride), nn.BatchNorm2d(inner), slot.activation()]
    if se:
        layers.append(_squeeze_excitation(inner, slot))
    layers += [pointwise_conv(inner, slot.channels), nn.BatchNorm2d(slot.channels)]
    return Residual(_closed(chain(*layers))) if slot.keeps_shape else chain(*layers)


@OPERATIONS.register("bottleneck", weighted=True, activated=True)
def bottleneck(slot: Slot, *, kernel: int = 3, groups: int = 1, ratio: float = 0.25) -> nn.Module:
    """Residual block of ResNet and RegNet: 1x1 to `ratio` of the width, a convolution in `groups`, 1x1 back.

    Convolution, norm, activation inside, as published. With the activation `after`, one stands behind the sum (He et
    al. 2016, ResNet v1); with it `before`, one stands at the entrance of the branch and none behind the sum. The
    shortcut is the input, or a 1x1 convolution with norm where the shape changes. `groups` that do not divide the
    inner width are reduced.
    """
    if not ratio > 0:
        raise ConfigError(f"bottleneck with a ratio of {ratio:g} has no channels; take a number above 0")
    inner = max(1, round(slot.channels * ratio))
    groups = common_groups(groups, inner)
    middle = nn.Conv2d(inner, inner, kernel, slot.stride, same_padding(kernel), groups=groups, bias=False)
    branch = [
        *(pointwise_conv(slot.in_channels, inner), nn.BatchNorm2d(inner), slot.activation()),
        *(middle, nn.BatchNorm2d(inner), slot.activation()),
        *(pointwise_conv(inner, slot.channels), nn.BatchNorm2d(slot.channels)),
    ]
    shortcut = None
    if not slot.keeps_shape:
        shortcut = chain(pointwise_conv(slot.in_channels, slot.channels, slot.stride), nn.BatchNorm2d(slot.channels))
    return _summed(slot, branch, shortcut)


@OPERATIONS.register("basic_block", weighted=True, activated=True)
def basic_block(slot: Slot) -> nn.Module:
    """Residual block of two 3x3 convolutions, as NAS-Bench-201 has it (Dong and Yang 2020, ResNetBasicblock).

    The shortcut at stride 2 is 2x2 average pooling and a 1x1 convolution without norm; at stride 1 a 1x1 convolution
    block where the width changes, else the input. With the activation `after` it stands between the convolutions and
    behind the sum (He et al. 2016).
    """
    quiet = replace(slot, activation=nn.Identity)
    second = replace(quiet, in_channels=slot.channels, stride=1)
    branch = [*conv_bn(quiet, 3), slot.activation(), *conv_bn(second, 3)]
    shortcut = None
    if slot.stride == 2:
        pool = nn.AvgPool2d(2, ceil_mode=True)  # ceil: an odd size becomes what the convolutions make of it
        shortcut = chain(pool, pointwise_conv(slot.in_channels, slot.channels))
    elif slot.changes_width:
        shortcut = conv_bn(slot if slot.order == "before" else quiet, 1)
    return _summed(slot, branch, shortcut)


def _summed(slot: Slot, branch: list[nn.Module], shortcut: nn.Module | None) -> nn.Module:
    """The residual sum, with the activation at the branch's entrance or behind the sum."""
    if slot.order == "before":
        return Residual(_closed(chain(slot.activation(), *branch)), shortcut)
    residual = Residual(_closed(chain(*branch)), shortcut)
    last = slot.activation()
    return residual if type(last) is nn.Identity else chain(residual, last)


def _closed(branch: nn.Sequential) -> nn.Sequential:
    """The branch, with its last norm marked as the one that ends it."""
    norm: Any = branch[-1]
    norm.closes_branch = True
    return branch


def _squeeze_excitation(channels: int, slot: Slot) -> SqueezeExcitation:
    """Over a quarter of the channels, with a hard sigmoid as its gate (Howard et al. 2019)."""
    squeezed = max(1, channels // 4)
    gate = chain(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(channels, squeezed, 1),
        slot.activation(),
        nn.Conv2d(squeezed, channels, 1),
        nn.Hardsigmoid(),
    )
    return SqueezeExcitation(gate)
