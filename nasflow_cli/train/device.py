"""The device of a worker: which it is, how much of its memory is the worker's, and what a trial took of that.

A device that several workers share is divided equally beforehand, so that a network that is too large fails in its own
worker, which tries it again with half batches, and takes no memory from its neighbours. Says nothing about the memory
of a CPU: that of a process is never given back whole, so that what one trial took of it cannot be told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from nasflow_cli.execute.devices import CHILDREN_VARIABLE

CONTEXT_BYTES = 512 * 2**20
"""Left to each worker of a shared device for what torch's allocator does not count: CUDA's context and libraries."""


def worker_device() -> torch.device:
    """The device of this worker. Call it before the first tensor: of a device that is shared, it limits the memory."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    children = int(os.environ.get(CHILDREN_VARIABLE, "1"))
    if children > 1:
        total_bytes = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(tensor_share(children, total_bytes))
    return torch.device("cuda")


def tensor_share(children: int, total_bytes: int) -> float:
    """How much of a device's memory each of so many workers may fill with tensors, as a share of 1.

    An equal part, less what else a worker takes; of a device so small that little would be left, half of that part.
    """
    part = 1 / children
    return max(part - CONTEXT_BYTES / total_bytes, part / 2)


def forget_peak(device: torch.device) -> None:
    """Begin to measure anew what a trial takes of the device's memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: torch.device) -> Mapping[str, float]:
    """The metric `device_memory_mib`: the most that tensors of this worker took at once since `forget_peak`, in MiB.

    The data that stays on the device is part of it. Empty on a CPU.
    """
    if device.type != "cuda":
        return {}
    return {"device_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1)}
