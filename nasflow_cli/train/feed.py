"""How examples reach the trainer: raw, on the device, a batch at a time. Knows nothing of networks and epochs.

Nothing here waits for the device but the copy of an order, once an epoch: what is asked for is queued there, and the
next batch can be fetched meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nasflow_cli.train.data import Labelled, Splits


class Feed(Protocol):
    """One split as the trainer reads it. `labels` are int64 (n,), on the device.

    Batches are on the device as well, raw: uint8 (m, channels, height, width) in the memory format channels_last, or
    float32 (m, features). Whatever holds the examples, the same values come in the same layout.
    """

    @property
    def labels(self) -> Tensor:
        """The labels of all examples."""
        ...

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `size` examples after the other in an order, int64 (m,) on the CPU: their positions, and what they are.

        The positions are on the device. The last batch is smaller when `size` does not divide m.
        """
        ...

    def in_turn(self, size: int) -> Iterator[Tensor]:
        """Yield all examples in their own order, `size` at a time; the last batch may be smaller."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """A split that is held on the device as a whole. Keeps the contract of `Feed`."""

    images: Tensor
    labels: Tensor

    @classmethod
    def on(cls, device: torch.device, *splits: Labelled) -> Images:
        """Copy splits to the device, one behind the other."""
        first = torch.from_numpy(splits[0].images)
        shape = (sum(map(len, splits)), *first.shape[1:])
        images = torch.empty(shape, dtype=first.dtype, device=device, memory_format=layout(first))
        for part, split in zip(torch.split(images, [len(split) for split in splits]), splits, strict=True):
            part.copy_(torch.from_numpy(split.images))
        return cls(images=images, labels=labels_on(device, *splits))

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Gather each batch where the examples lie."""
        for chosen in torch.split(order.to(self.labels.device), size):
            yield chosen, self.images[chosen]

    def in_turn(self, size: int) -> Iterator[Tensor]:
        """Yield views."""
        yield from torch.split(self.images, size)


def layout(examples: Tensor) -> torch.memory_format:
    """The memory format of batches: channels_last, where there is more than one channel to be last."""
    return torch.channels_last if examples.ndim == 4 and examples.shape[1] > 1 else torch.contiguous_format


def labels_on(device: torch.device, *splits: Labelled) -> Tensor:
    """The labels of splits, one behind the other."""
    return torch.from_numpy(np.concatenate([split.labels for split in splits])).to(device)


class Normalise(nn.Module):
    """Raw values to zero mean and unit deviation: 0..255 a channel of images, any number a feature of vectors."""

    mean: Tensor
    std: Tensor

    def __init__(self, splits: Splits, device: torch.device) -> None:
        super().__init__()
        shape = (1, -1, *(1 for _ in splits.input_shape[1:]))
        self.register_buffer("mean", torch.tensor(splits.mean, device=device).view(shape))
        self.register_buffer("std", torch.tensor(splits.std, device=device).view(shape))

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 of the same shape."""
        return (images.float() - self.mean) / self.std
