"""Convolutions of images: plain, separable, dilated, depthwise, grouped. No bias, since a batch norm follows each.

Refuses an even kernel (ConfigError). Groups that do not divide the channels in and out are reduced to the greatest
number that does.
"""

from __future__ import annotations

from torch import nn

from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.operations.slot import Slot, conv_bn, depthwise_conv, ordered, pointwise_conv, separable


@OPERATIONS.register("conv", weighted=True, activated=True)
def conv(slot: Slot, *, kernel: int = 3, groups: int = 1, dilation: int = 1) -> nn.Module:
    """Convolution. `kernel` is odd; `groups` are reduced until they divide the channels."""
    return conv_bn(slot, kernel, dilation=dilation, groups=groups)


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


@OPERATIONS.register("conv7x7", weighted=True, activated=True)
def conv7x7(slot: Slot) -> nn.Module:
    """7x7 convolution."""
    return conv_bn(slot, 7)


@OPERATIONS.register("grouped_conv3x3", weighted=True, activated=True)
def grouped_conv3x3(slot: Slot) -> nn.Module:
    """3x3 convolution in 4 groups, or in 2 or 1 where the channels allow no more."""
    return conv_bn(slot, 3, groups=4)


@OPERATIONS.register("depthwise", weighted=True, activated=True)
def depthwise(slot: Slot, *, kernel: int = 3) -> nn.Module:
    """Convolution of each channel by itself; where the width changes, a pointwise one behind it."""
    if slot.changes_width:
        return separable(slot, kernel)
    return ordered(slot, depthwise_conv(slot.channels, kernel, slot.stride), nn.BatchNorm2d(slot.channels))


@OPERATIONS.register("sep_conv3x3", weighted=True, activated=True)
def sep_conv3x3(slot: Slot) -> nn.Module:
    """3x3 depthwise separable convolution."""
    return separable(slot, 3)


@OPERATIONS.register("sep_conv5x5", weighted=True, activated=True)
def sep_conv5x5(slot: Slot) -> nn.Module:
    """5x5 depthwise separable convolution."""
    return separable(slot, 5)


@OPERATIONS.register("sep_conv7x7", weighted=True, activated=True)
def sep_conv7x7(slot: Slot) -> nn.Module:
    """7x7 depthwise separable convolution."""
    return separable(slot, 7)


@OPERATIONS.register("dil_conv3x3", weighted=True, activated=True)
def dil_conv3x3(slot: Slot) -> nn.Module:
    """3x3 depthwise separable convolution, dilated by 2."""
    return separable(slot, 3, dilation=2)


@OPERATIONS.register("dil_conv5x5", weighted=True, activated=True)
def dil_conv5x5(slot: Slot) -> nn.Module:
    """5x5 depthwise separable convolution, dilated by 2."""
    return separable(slot, 5, dilation=2)


@OPERATIONS.register("darts_sep_conv3x3", weighted=True, activated=True)
def darts_sep_conv3x3(slot: Slot) -> nn.Module:
    """3x3 separable convolution twice, as DARTS has it."""
    return _twice_separable(slot, 3)


@OPERATIONS.register("darts_sep_conv5x5", weighted=True, activated=True)
def darts_sep_conv5x5(slot: Slot) -> nn.Module:
    """5x5 separable convolution twice, as DARTS has it."""
    return _twice_separable(slot, 5)


def _twice_separable(slot: Slot, kernel: int) -> nn.Sequential:
    """Two separable convolutions; the first has the stride and the second the width (Liu et al. 2019, SepConv)."""
    width = slot.in_channels
    first = [depthwise_conv(width, kernel, slot.stride), pointwise_conv(width, width), nn.BatchNorm2d(width)]
    second = [depthwise_conv(width, kernel), pointwise_conv(width, slot.channels), nn.BatchNorm2d(slot.channels)]
    return ordered(slot, *first, slot.activation(), *second)
