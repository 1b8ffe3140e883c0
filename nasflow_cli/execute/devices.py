"""How many workers there are and what each may use: one device, or a part of one, and a share of the cores.

Reads `CUDA_VISIBLE_DEVICES` as CUDA does, in all its forms, so that it is the pool of devices. Refuses to import
torch: who calls says how to count devices.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nasflow_cli.execute.control_groups import PROC, cores_allowed
from nasflow_cli.execute.protocol import Slot

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

CHILDREN_VARIABLE = "NASFLOW_DEVICE_CHILDREN"
"""Tells a worker how many workers have its device, itself included. Set for each; 1 without a device."""

NEIGHBOURS_VARIABLE = "NASFLOW_MACHINE_WORKERS"
"""Tells a worker how many workers share its machine, or its node of a cluster, itself included. Set for each."""


def device_slots(
    workers: int | None,
    children_per_device: int,
    visible: str | None,
    count_devices: Callable[[], int],
    cores: int,
) -> tuple[Slot, ...]:
    """Return the slots of a machine, in the order in which they are best filled: over all devices first.

    `workers` None fills the machine: `children_per_device` slots a device, or without a device one a core; a number
    is kept, dealt out over the devices in turn. `visible` is the value of CUDA_VISIBLE_DEVICES, None when it is not
    set. `count_devices` gives the number of CUDA devices; it is not called when `visible` leaves none, and a zero
    means none whatever `visible` says. Each worker gets an equal share of `cores` as its number of threads, and is
    told under CHILDREN_VARIABLE how many have its device, under NEIGHBOURS_VARIABLE how many there are. Slots are named
    `cuda:<device>/<child>` or `cpu:<n>`.
    Raises ValueError for a number below 1.
    """
    for what, number in (("workers", workers), ("children per device", children_per_device), ("cores", cores)):
        if number is not None and number < 1:
            raise ValueError(f"{what}: at least 1, not {number}")
    devices = _devices(visible, count_devices)
    if not devices:
        num_slots = cores if workers is None else workers
        # Hidden also where there are some: a worker without a device must not take the first.
        return tuple(_slot(f"cpu:{n}", "", (cores, num_slots), 1) for n in range(num_slots))
    num_slots = len(devices) * children_per_device if workers is None else workers
    places = [(devices[n % len(devices)], n // len(devices)) for n in range(num_slots)]
    children = Counter(device for device, _ in places)
    return tuple(
        _slot(f"cuda:{device}/{child}", device, (cores, num_slots), children[device]) for device, child in places
    )


def children_of_devices(slots: Sequence[Slot]) -> dict[str, int]:
    """Return how many workers each device has; empty without a device."""
    devices = (slot.environment.get("CUDA_VISIBLE_DEVICES", "") for slot in slots)
    return dict(Counter(device for device in devices if device))


def with_memory(slots: Sequence[Slot], gib: float | None) -> tuple[Slot, ...]:
    """Return the slots with a limit to what each worker may take, in GiB; None: as much as there is."""
    return tuple(replace(slot, memory_bytes=None if gib is None else int(gib * 2**30)) for slot in slots)


def visible_tokens(visible: str) -> tuple[str, ...]:
    """Return the devices that a value of CUDA_VISIBLE_DEVICES names, each in a form that names it alone.

    They are all indices, all `GPU-...` or all `MIG-...`; the list ends at the first entry that is something else
    (-1, NoDevFiles, an empty one), as it does for CUDA. A device named twice counts once.
    """
    entries = [entry.strip() for entry in visible.split(",")]
    kind = _kind(entries[0])
    tokens: list[str] = []
    for entry in entries:
        if kind is None or _kind(entry) != kind:
            break
        tokens.append(str(int(entry)) if kind == "index" else entry)
    return tuple(dict.fromkeys(tokens))


def usable_cores(proc: Path = PROC) -> int:
    """Return how many cores this process may use: its affinity, cut by the quota of its control groups, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = cores_allowed(proc)
    return cores if allowed is None else max(1, min(cores, math.ceil(allowed)))


def _devices(visible: str | None, count_devices: Callable[[], int]) -> tuple[str, ...]:
    if visible is None:
        return tuple(str(index) for index in range(count_devices()))
    tokens = visible_tokens(visible)
    return tokens if tokens and count_devices() > 0 else ()


def _kind(entry: str) -> str | None:
    if entry.isascii() and entry.isdigit():
        return "index"
    return next((prefix for prefix in ("GPU-", "MIG-") if entry.startswith(prefix)), None)


def share_of_cores(cores: int, workers: int) -> dict[str, str]:
    """The environment of each of so many workers of a machine with so many cores: its threads, its neighbours."""
    return {
        NEIGHBOURS_VARIABLE: str(workers),
        **dict.fromkeys(THREAD_VARIABLES, str(max(1, cores // workers))),
    }


def _slot(name: str, device: str, share: tuple[int, int], children: int) -> Slot:
    environment = {"CUDA_VISIBLE_DEVICES": device, CHILDREN_VARIABLE: str(children), **share_of_cores(*share)}
    return Slot(name=name, environment=environment)
