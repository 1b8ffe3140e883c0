"""A split that stays in its file: batches are read from there, by processes of their own or by this one.

Loader processes end with the worker, however that ends. Refuses to let them take part in what the worker's randomness,
its signals and its results are: they read, and nothing else.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nasflow_cli.execute.worker import DRIVERS_SIGNALS, die_with
from nasflow_cli.train.data.store import Stored
from nasflow_cli.train.data.values import Labelled, Positions
from nasflow_cli.train.feed import labels_on, layout

AHEAD = 2
"""Batches that a loader process reads ahead."""

LARGEST_BATCH = 1024
"""Examples in the largest batch that is usual: one of those that are scored."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (nothing is written there by name)
"""Where batches cross from a loader process to its worker. In containers it is often small."""


def num_loaders(given: int | None, device: torch.device, cores: int) -> int:
    """How many processes read ahead for a worker that has so many cores."""
    if given is not None:
        return given
    return 0 if device.type == "cpu" else max(0, min(2, cores // 2))


def died(error: BaseException) -> bool:
    """Whether an exception says that a loader process died."""
    return type(error) is RuntimeError and "DataLoader worker" in str(error)


class Loader:
    """Reads batches of a stored file in `processes` of its own; with 0 of them, when they are asked for."""

    def __init__(self, stored: Stored, device: torch.device, processes: int) -> None:
        self.stored = stored
        self.device = device
        self.processes = processes
        self._plan: list[Positions] = []
        self._loader: DataLoader[Tensor] | None = None

    def read(self, batches: Sequence[Positions]) -> Iterator[Tensor]:
        """Yield the examples of each batch on the device, in the layout that `Feed` asks for.

        Raises DamagedDataError, and what `died` knows when a loader process is gone.
        """
        self._plan[:] = batches
        if self._loader is None:
            self._loader = self._start()
        try:
            with _own_child_signal():
                passing = iter(self._loader)
            for examples in passing:
                there = examples.to(self.device, non_blocking=True)
                yield there.contiguous(memory_format=layout(there))
        except Exception as error:
            self.close()
            if self.processes and isinstance(error, (EOFError, OSError)):  # it was killed while it handed a batch over
                raise RuntimeError(f"DataLoader worker left a batch behind: {error!r}") from error
            raise

    def close(self) -> None:
        """End the loader processes; the next `read` starts new ones."""
        loader, self._loader = self._loader, None
        atexit.unregister(self.close)
        running = None if loader is None else loader._iterator
        if running is not None and self.processes:
            running._shutdown_workers()  # type: ignore[attr-defined]

    def _start(self) -> DataLoader[Tensor]:
        processes = self.processes
        if processes and not _crosses((AHEAD + 1) * processes * LARGEST_BATCH * self.stored.row_bytes):
            sys.stderr.write(f"{SHARED_MEMORY} is too small for loader processes; the worker reads its data itself\n")
            processes = self.processes = 0
        # Before multiprocessing's own exit function, which would wait for processes that no SIGTERM ends.
        atexit.register(self.close)
        return DataLoader(
            _Batches(self.stored),
            batch_size=None,
            sampler=self._plan,
            num_workers=processes,
            pin_memory=self.device.type == "cuda",
            # Of its own: it draws a number at each pass, and from the global one that would change what dropout draws.
            generator=torch.Generator(),
            worker_init_fn=_obey if processes else None,
            # Not spawn where it can be avoided: each process would import torch for seconds. They use no device.
            multiprocessing_context=("fork" if sys.platform == "linux" else "spawn") if processes else None,
            persistent_workers=processes > 0,
            prefetch_factor=AHEAD if processes else None,
        )


class Streamed:
    """A split, or several behind each other, from example `first` of a stored file on. Keeps the contract of `Feed`."""

    def __init__(self, loader: Loader, first: int, splits: Sequence[Labelled]) -> None:
        self._loader = loader
        self._first = first
        self._labels = labels_on(loader.device, *splits)

    @property
    def labels(self) -> Tensor:
        """On the device: they are small."""
        return self._labels

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Read each batch while the one before is trained on."""
        chosen = torch.split(order.to(self._loader.device), size)
        plan = [each.numpy() + self._first for each in torch.split(order, size)]
        return zip(chosen, self._loader.read(plan), strict=True)

    def in_turn(self, size: int) -> Iterator[Tensor]:
        """Read from the first to the last."""
        every = np.arange(self._first, self._first + len(self), dtype=np.int64)
        return self._loader.read([every[start : start + size] for start in range(0, len(self), size)])


class _Batches(Dataset[Tensor]):
    """A stored file, item by item a batch: what is asked for are the positions of its examples."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.parent = os.getpid()

    def __getitem__(self, positions: Any) -> Tensor:
        return torch.from_numpy(self.stored.read(positions))


@contextmanager
def _own_child_signal() -> Iterator[None]:
    """Put back what is done at the end of a child process.

    torch would raise wherever this process is then, also between tasks, where nobody expects it. A pass notices dead
    loader processes without: torch looks for them while it waits for a batch.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _obey(_: int) -> None:
    """A loader process ends with its worker and not by a signal to the whole group: the worker may be checkpointing."""
    about = torch.utils.data.get_worker_info()
    die_with(about.dataset.parent)  # type: ignore[union-attr]
    for number in DRIVERS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _crosses(size: int) -> bool:
    try:
        return shutil.disk_usage(SHARED_MEMORY).free >= size
    except OSError:  # another system, with another way
        return True
