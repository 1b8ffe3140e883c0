"""How many threads a network is trained with on the CPU: all that its worker has, or one where layers are too small.

Waiting for each other at the end of every matrix product costs threads more than they gain on small ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

SMALL = 2**20
"""Multiply-adds of the largest layer for one batch, up to which one thread trains (docs/benchmarks.md)."""


def is_small(network: nn.Module, batch_size: int) -> bool:
    """Whether no layer has enough to do for two threads. Convolutions have; of vectors the widest layer says."""
    layers = list(network.modules())
    if any(isinstance(layer, nn.Conv2d) for layer in layers):
        return False
    work = [batch_size * layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear)]
    return max(work, default=0) <= SMALL


@contextmanager
def at_most(num_threads: int | None) -> Iterator[None]:
    """Have torch use no more than so many threads inside; None: as many as before."""
    before = torch.get_num_threads()
    if num_threads is None or num_threads >= before:
        yield
        return
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
