"""The driver's side of one local worker: start it, talk to it, see it die, end it. It knows nothing of tasks.

Refuses to wait without an end: a worker that does not even react to SIGKILL (a driver call that hangs in the kernel)
is left behind after a few seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from nasflow_cli.execute.boundary import Message, decode, encode
from nasflow_cli.execute.halted import is_halted
from nasflow_cli.execute.worker import HELD_SIGNALS, serve

PATIENCE_S = 5.0
"""How long a process may take to vanish after it was killed or closed its connection."""


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Put off the driver's signals in this thread: no handler's exception separates two steps that belong together.

    A worker that is started meanwhile begins with them put off, and is not ended by a ctrl-C before it ignores it.
    """
    # Started by the first worker if not here; its start would unblock the signals again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerProcess:
    """A process that runs `main`. Linux ends one of `worker.serve` when the *thread* that started it ends."""

    def __init__(self, name: str, main: Callable[[Connection, int], None] = serve) -> None:
        """Start the process. Raises OSError when the system has no room for it."""
        context = get_context("spawn")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        # Not a daemon in multiprocessing's sense: that may have no children, and data loaders are some.
        self._process = context.Process(target=main, args=(theirs, os.getpid()), name=name, daemon=False)
        try:
            self._process.start()
        finally:
            theirs.close()
        self.sentinel = _sentinel(self._process)
        """A file descriptor that is ready once the process has ended."""

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid or 0

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs, or is stopped by a signal."""
        return not wait([self.sentinel], 0)

    @property
    def is_halted(self) -> bool:
        """Whether a signal has stopped the process. Known on Linux only."""
        return is_halted(self.pid)

    def send(self, message: Message) -> None:
        """Send a message. Raises OSError when the worker is gone."""
        self.connection.send_bytes(encode(message))

    def receive(self) -> Message | None:
        """Return the message that has come, or None when the worker can send no more. Call it on a ready sign only."""
        try:
            return decode(self.connection.recv_bytes()) if self.connection.poll() else None
        except (EOFError, OSError):
            return None

    def await_death(self) -> int | None:
        """Give a worker that closed its connection the time to vanish, then `end` it. Returns what `end` returns."""
        wait([self.sentinel], PATIENCE_S)
        return self.end()

    def end(self) -> int | None:
        """Kill the process if it lives and give its resources back. Returns its exit code, None if it is not known.

        May be called again, also after an exception cut it short.
        """
        self._process.kill()
        if wait([self.sentinel], PATIENCE_S):
            self._process.join()
        self.connection.close()
        return self._process.exitcode


def death_of(code: int | None) -> str:
    """Say in words what an exit code of multiprocessing tells."""
    if code is None:
        return "it closed its connection and did not end"
    if code >= 0:
        return f"it ended itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    why = ", as the system does when its memory runs out" if code == -signal.SIGKILL else ""
    return f"killed by signal {-code} ({name}){why}"


def _sentinel(process: SpawnProcess) -> int:
    """A descriptor of the process itself, closed with the process object, or else multiprocessing's sentinel.

    That one is a pipe which children of the worker inherit and hold open after its death.
    """
    if process.pid is None or not hasattr(os, "pidfd_open"):
        return process.sentinel
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:  # a kernel before 5.3, or a sandbox
        return process.sentinel
    weakref.finalize(process, os.close, descriptor)
    return descriptor
