"""Processes that a signal has halted: the kernel tells, and they get the time to be let go on. Seen on Linux only.

Refuses to ask a process for a sign of life: one that is busy in C code, or short of cores, could give none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

LOOK_EVERY_S = 5.0
"""How often processes are looked at that may have been halted."""

HALTED_LIMIT_S = 60.0
"""How long a process may be halted."""

NUM_LOOKS = int(HALTED_LIMIT_S / LOOK_EVERY_S)
"""At how many looks in a row a process is halted that is given up."""


def is_halted(pid: int) -> bool:
    """Whether a signal has stopped the process; not while a debugger holds it."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The name stands in brackets and may itself hold some.
    return status.rpartition(")")[2].split()[0] == "T"


class HaltWatch:
    """Counts at how many looks in a row each process was halted.

    Looks are counted and not seconds: who was halted together with the one that looks goes on with it.
    """

    def __init__(self) -> None:
        self._looks: dict[int, int] = {}

    def look(self, pids: Iterable[int]) -> set[int]:
        """Look once, and return those of the processes that are to be given up."""
        self._looks = {pid: self._looks.get(pid, 0) + 1 for pid in pids if is_halted(pid)}
        return {pid for pid, looks in self._looks.items() if looks >= NUM_LOOKS}


def guard(parent: int, pause: Callable[[], object]) -> None:
    """Kill the parent of this process when it stays halted; `pause` is called between two looks."""
    watch = HaltWatch()
    while not watch.look([parent]):
        pause()
    if os.getppid() == parent:  # else it has ended, and another process may have its number
        os.kill(parent, signal.SIGKILL)
