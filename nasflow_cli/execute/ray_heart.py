"""The processes without which a Ray that was started here is none: find them, and wait for their end. Linux only.

Refuses to wait for what a signal has halted and nobody lets go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait

from nasflow_cli.core.errors import MissingError
from nasflow_cli.execute.halted import HaltWatch
from nasflow_cli.execute.session import children, program_of

HEART = ("gcs_server", "raylet")
"""The programs that they run."""


def heart_of(pids: Sequence[int]) -> dict[int, int]:
    """Those of the processes that are at the heart of Ray, each with a descriptor. Raises MissingError without any."""
    heart = {}
    for pid in pids:
        # One that has just ended, a kernel before 5.3, or a Python that was built for one.
        with contextlib.suppress(OSError, AttributeError):
            if program_of(pid) in HEART:
                heart[pid] = os.pidfd_open(pid)
    if not heart:
        raise MissingError(
            f"of the Ray that was started here none of {', '.join(HEART)} can be watched (it needs Linux 5.3, a Python "
            "built for it, and a Ray that has them); use the executor 'local'"
        )
    return heart


def await_end(heart: Mapping[int, int], look_every_s: float) -> None:
    """Return when the first of them has ended.

    What this process or one of them has started is ended when it stays halted: Ray would wait for it for ever. The
    workers are left to their actors.
    """
    halts, parents = HaltWatch(), {os.getpid(), *heart}
    while not wait(list(heart.values()), look_every_s):
        for pid in halts.look(children(os.getpid(), parents)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
