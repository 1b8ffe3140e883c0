"""The slot that an operation fills, and the layers that most operations are put together from.

Refuses a slot that cannot be (ValueError), and a kernel or a dilation that cannot keep the resolution (ConfigError).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from nasflow_cli.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where an operation stands: what goes in and out, and what makes its activation.

    Images are (n, in_channels, height, width) and become (n, channels, ceil(height / stride), ceil(width / stride));
    vectors are (n, in_channels) and become (n, channels), at stride 1. `order` says where the activation stands:
    `before` the convolution (activation, convolution, norm) or `after` the norm (convolution, norm, activation).
    """

    in_channels: int
    channels: int
    stride: int
    activation: Callable[[], nn.Module]
    order: Literal["before", "after"] = "before"
    vectors: bool = False

    def __post_init__(self) -> None:
        if min(self.in_channels, self.channels) < 1:
            raise ValueError(f"a slot has at least one channel, not {self.in_channels} and {self.channels}")
        if self.stride not in ((1,) if self.vectors else (1, 2)):
            raise ValueError(f"a slot of {'vectors' if self.vectors else 'images'} has no stride of {self.stride}")
        if self.order not in ("before", "after"):
            raise ValueError(f"an activation stands 'before' or 'after', not {self.order!r}")

    @property
    def changes_width(self) -> bool:
        """Whether there are other channels out than in."""
        return self.in_channels != self.channels

    @property
    def keeps_shape(self) -> bool:
        """Whether the output has the input's shape."""
        return self.stride == 1 and not self.changes_width


def chain(*layers: nn.Module) -> nn.Sequential:
    """The layers one after the other. Identities (an activation that a slot does not have) are left out."""
    return nn.Sequential(*(layer for layer in layers if type(layer) is not nn.Identity))


def ordered(slot: Slot, *layers: nn.Module) -> nn.Sequential:
    """The slot's activation and the layers, in the slot's order."""
    return chain(slot.activation(), *layers) if slot.order == "before" else chain(*layers, slot.activation())


def same_padding(kernel: int, dilation: int = 1) -> int:
    """The padding that keeps the resolution at stride 1 and gives ceil(size / 2) at stride 2.

    Raises ConfigError for an even kernel, which would need another padding on each side.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(
            f"a kernel of {kernel} does not keep the resolution; take an odd number from 1 (1, 3, 5, ...)"
        )
    if dilation < 1:
        raise ConfigError(f"a dilation of {dilation} does not exist; take a whole number from 1")
    return dilation * (kernel // 2)


def common_groups(groups: int, *channels: int) -> int:
    """The greatest number of groups that divides `groups` and all the channels: any width can be built.

    Raises ConfigError for fewer than one group.
    """
    if groups < 1:
        raise ConfigError(f"{groups} groups do not exist; take a whole number from 1")
    return math.gcd(groups, *channels)


def conv_bn(slot: Slot, kernel: int, *, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    """Activation, convolution, batch norm, in the slot's order. Groups that do not divide the channels are reduced."""
    groups = common_groups(groups, slot.in_channels, slot.channels)
    padding = same_padding(kernel, dilation)
    conv = nn.Conv2d(
        slot.in_channels, slot.channels, kernel, slot.stride, padding, dilation=dilation, groups=groups, bias=False
    )
    return ordered(slot, conv, nn.BatchNorm2d(slot.channels))


def depthwise_conv(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution of each channel by itself."""
    padding = same_padding(kernel, dilation)
    return nn.Conv2d(channels, channels, kernel, stride, padding, dilation=dilation, groups=channels, bias=False)


def pointwise_conv(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution."""
    return nn.Conv2d(in_channels, channels, 1, stride, bias=False)


def separable(slot: Slot, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Activation, depthwise convolution, pointwise convolution, batch norm (Chollet 2017), in the slot's order."""
    depthwise = depthwise_conv(slot.in_channels, kernel, slot.stride, dilation)
    pointwise = pointwise_conv(slot.in_channels, slot.channels)
    return ordered(slot, depthwise, pointwise, nn.BatchNorm2d(slot.channels))
