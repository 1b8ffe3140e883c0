"""Pooling of images. Padding is never counted. Where the width changes, a 1x1 convolution block stands before it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.operations.slot import Slot, chain, conv_bn


class CropFirst(nn.Module):
    """Leaves out the first row and the first column: (n, c, h, w) to (n, c, h - 1, w - 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a view."""
        return x[:, :, 1:, 1:]


@OPERATIONS.register("avg_pool3x3", adapts=True)
def avg_pool3x3(slot: Slot) -> nn.Module:
    """3x3 average pooling."""
    return _behind_width(slot, nn.AvgPool2d(3, slot.stride, 1, count_include_pad=False))


@OPERATIONS.register("max_pool3x3", adapts=True)
def max_pool3x3(slot: Slot) -> nn.Module:
    """3x3 max pooling."""
    return _behind_width(slot, nn.MaxPool2d(3, slot.stride, 1))


@OPERATIONS.register("avg_pool2x2", adapts=True)
def avg_pool2x2(slot: Slot) -> nn.Module:
    """2x2 average pooling; at stride 1 of each pixel and its neighbours to the right and below."""
    if slot.stride == 2:
        return _behind_width(slot, nn.AvgPool2d(2, ceil_mode=True))
    # Windows at -1, ..., n - 1 without the first: the padding that is left lies to the right and below.
    return _behind_width(slot, nn.AvgPool2d(2, 1, 1, count_include_pad=False), CropFirst())


@OPERATIONS.register("max_pool2x2", adapts=True)
def max_pool2x2(slot: Slot) -> nn.Module:
    """2x2 max pooling; at stride 1 of each pixel and its neighbours to the right and below."""
    if slot.stride == 2:
        return _behind_width(slot, nn.MaxPool2d(2, ceil_mode=True))
    return _behind_width(slot, nn.MaxPool2d(2, 1, 1), CropFirst())


def _behind_width(slot: Slot, *pool: nn.Module) -> nn.Module:
    """The pool, behind what changes the width if it has to change (as NAS-Bench-201 has it)."""
    if slot.changes_width:
        return chain(*conv_bn(replace(slot, stride=1), 1), *pool)
    return pool[0] if len(pool) == 1 else chain(*pool)
