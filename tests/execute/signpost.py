"""A named pipe by which a worker tells where it is, and that it is no more."""

from __future__ import annotations

import os
import select
from pathlib import Path

PATIENCE_S = 60.0


class Signpost:
    """The reading end of a named pipe. A handler writes its process id there and keeps it open while it lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def pid(self) -> int:
        """Wait for the worker to get there."""
        (pid,) = self.pids()
        return pid

    def is_reached(self) -> bool:
        """Whether somebody has got there of whom was not told yet."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def pids(self) -> list[int]:
        """Wait until somebody gets there, and tell of all that have by now."""
        text = b""
        while not text.endswith(b"\n"):
            text += self._read()
        return [int(line) for line in text.splitlines()]

    def wait_until_nobody_holds_it(self) -> None:
        """Return when the last process that opened the pipe for writing is gone."""
        while self._read():
            pass

    def close(self) -> None:
        os.close(self._end)

    def _read(self) -> bytes:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        assert poll.poll(PATIENCE_S * 1000), "nothing came through the pipe"
        return os.read(self._end, 4096)
