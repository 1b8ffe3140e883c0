"""How much data a process may hold in memory. Asks the machine and the settings; knows of no device."""

from __future__ import annotations

import os
from pathlib import Path

from nasflow_cli.core.executor_config import ExecutorConfig
from nasflow_cli.execute.control_groups import PROC, memory_allowed
from nasflow_cli.train.data.checks import MAX_BYTES

SHARE = 4
"""All workers together hold data in one part in so many of the memory: networks and batches want the rest."""


def memory_limit(executor: ExecutorConfig, proc: Path = PROC) -> int:
    """The most bytes of data that a worker holds in memory; it never holds more than `MAX_BYTES`.

    `executor.workers` says how many share the memory; None counts as one. What `executor.memory_gib` leaves a worker
    is not filled with data either.
    """
    if executor.data_gib is not None:
        return min(int(executor.data_gib * 2**30), MAX_BYTES)
    own = machine_memory(proc) // (executor.workers or 1)
    if executor.memory_gib is not None:
        own = min(own, int(executor.memory_gib * 2**30))
    return min(own // SHARE, MAX_BYTES)


def machine_memory(proc: Path = PROC) -> int:
    """Bytes of memory of this machine, or of the part of it that a container or a batch system leaves this process."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = memory_allowed(proc)
    return total if allowed is None else min(total, allowed)
