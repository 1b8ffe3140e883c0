"""A user's plug-in: a convolution that meets whatever trouble a test has in mind."""

from __future__ import annotations

from torch import Tensor, nn

from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.operations import Slot, conv_bn


class Trouble:
    """Is met by every batch; `batches` are the sizes of those in training so far."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def meet(self, x: Tensor, *, training: bool) -> None:
        if training:
            self.batches.append(len(x))
            self.strike(len(self.batches), x)

    def strike(self, number: int, x: Tensor) -> None:
        """Do nothing, unless a test has put something else here. `number` counts the batches in training from 1."""


TROUBLE = Trouble()


class Troubled(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "meta":
            TROUBLE.meet(x, training=self.training)
        y: Tensor = self.inner(x)
        return y


@OPERATIONS.register("troubled", weighted=True, activated=True)
def troubled(slot: Slot) -> nn.Module:
    """A 1x1 convolution that is not always what it should be."""
    return Troubled(conv_bn(slot, 1))
