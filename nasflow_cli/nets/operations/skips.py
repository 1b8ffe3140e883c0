"""No connection, and the connection that passes its input on: as it is, or narrowed and projected to another shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.operations.slot import Slot, conv_bn, ordered, pointwise_conv


class Zero(nn.Module):
    """Passes nothing on: zeros of the shape that the slot has. The input's gradient is zero."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, channels, ceil(h / stride), ceil(w / stride)), or (n, channels) of vectors."""
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return x[:, :1].mul(0.0).expand(-1, self.channels, *x.shape[2:])


class FactorizedReduce(nn.Module):
    """Two 1x1 convolutions at stride 2, the second on the image moved by a pixel, side by side (Liu et al. 2019).

    The image is filled with a row and a column of zeros behind its last, so that odd sizes work; on even ones these
    are not read. `channels` is at least 2.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.in_channels, self.channels = in_channels, channels
        self.even = nn.Conv2d(in_channels, channels - channels // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(in_channels, channels // 2, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, channels, ceil(h / 2), ceil(w / 2))."""
        moved = pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return torch.cat([self.even(x), self.odd(moved)], 1)


@OPERATIONS.register("none", zero=True, takes="any")
def none(slot: Slot) -> nn.Module:
    """No connection."""
    return Zero(slot.channels, slot.stride)


@OPERATIONS.register("skip", identity=True, adapts=True, takes="any")
def skip(slot: Slot) -> nn.Module:
    """The input as it is; where the shape changes, a projection with batch norm and activation.

    At stride 2 a factorized reduction (one convolution for one channel, which cannot be halved), at stride 1 a 1x1
    convolution, for vectors a linear layer.
    """
    if slot.keeps_shape:
        return nn.Identity()
    if slot.vectors:
        linear = nn.Linear(slot.in_channels, slot.channels, bias=False)
        return ordered(slot, linear, nn.BatchNorm1d(slot.channels))
    if slot.stride == 1:
        return conv_bn(slot, 1)
    if slot.channels == 1:
        return ordered(slot, pointwise_conv(slot.in_channels, 1, stride=2), nn.BatchNorm2d(1))
    return ordered(slot, FactorizedReduce(slot.in_channels, slot.channels), nn.BatchNorm2d(slot.channels))
