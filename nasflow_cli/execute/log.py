"""The log of a task: what was printed first and what was printed last, however much was printed in between.

Refuses to fill the disk: a log that has grown too long loses its middle, also while the task still prints. Refuses to
follow a symbolic link in the place of a log.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from nasflow_cli.core.trial import ErrorKind

MAX_BYTES = 8 * 2**20
"""A log longer than this loses its middle."""

KEPT_BYTES = 2**20
"""What is kept then, of its beginning and of its end each."""

LOOK_EVERY_S = 0.2
"""How often a log is looked at while its task runs."""


class LogError(Exception):
    """A log cannot be written, so that nothing else beside it can: no fault of the task."""

    error_kind: ErrorKind = "disk"


def make_folder(log: Path) -> None:
    """Make the folder of a log. Raises LogError."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LogError(f"cannot make {log.parent}: {error.strerror}") from error


def open_log(log: Path) -> int:
    """Open a log for appending and return its descriptor. Raises LogError."""
    make_folder(log)
    return _open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND)


def _open(log: Path, flags: int) -> int:
    try:
        return os.open(log, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o664)
    except OSError as error:
        raise LogError(f"cannot write {log}: {error.strerror}") from error


def shorten(descriptor: int) -> None:
    """Take out the middle of a log that is too long, and say how much it was.

    All others who write to it, children of the task included, append, so that they go on behind what is kept; this
    descriptor does not append. What they write in the moment of the cut is lost. Raises OSError.
    """
    size = os.fstat(descriptor).st_size
    if size <= MAX_BYTES:
        return
    end = os.pread(descriptor, KEPT_BYTES, size - KEPT_BYTES)
    left_out = size - KEPT_BYTES - len(end)
    kept = f"\n[nasflow: {left_out} bytes of output were left out here]\n".encode() + end
    position = KEPT_BYTES + os.pwrite(descriptor, kept, KEPT_BYTES)
    come_meanwhile = os.pread(descriptor, KEPT_BYTES, size)
    position += os.pwrite(descriptor, come_meanwhile, position)
    os.ftruncate(descriptor, position)


class LogWatch:
    """Looks after the log that it was told to follow last, in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def follow(self, log: Path) -> None:
        """Look after this log, which is there, from now on. Raises LogError when it cannot be opened."""
        descriptor = _open(log, os.O_RDWR)
        with self._lock:
            before, self._descriptor = self._descriptor, descriptor
        if before is None:
            threading.Thread(target=self._work, name="log", daemon=True).start()
        else:
            os.close(before)

    def look(self) -> None:
        """Shorten the log now if it is too long. A disk that refuses is no reason to end a task."""
        with self._lock, contextlib.suppress(OSError):
            if self._descriptor is not None:
                shorten(self._descriptor)

    def _work(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            self.look()
