"""The child's side of a local worker: it waits for orders, runs the handler, answers, and never outlives its driver.

It reads orders in a thread of its own, so that a request to stop, or the end of the driver, is seen while the handler
runs in the main thread. It refuses SIGINT: a ctrl-C reaches the whole process group, but only the driver decides.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import queue
import resource
import signal
import sys
import threading
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from nasflow_cli.execute.allocator import keep_freed_memory
from nasflow_cli.execute.boundary import Message, attempt, decode, encode, resolve
from nasflow_cli.execute.halted import guard
from nasflow_cli.execute.log import LogWatch, open_log
from nasflow_cli.execute.protocol import Handler

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

DRIVERS_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Sent to a whole process group by terminals and batch systems. Only the driver decides what they mean."""

HELD_SIGNALS = frozenset(DRIVERS_SIGNALS)
"""Blocked by the driver while it starts a worker, which lets them in once it ignores them: none is caught half-way."""


def serve(connection: Connection, driver: int) -> None:
    """Run in a new process until the driver, whose process id is given, is gone.

    The first message is `{"target", "setup", "environment", "memory_bytes", "guard_every_s"}`; the last is how often to
    look whether the driver is halted, None: not at all. Then `{"run": payload, "log": path}` runs the handler and is
    answered by the message of `boundary.attempt`; `{"stop": true}` asks the task that runs to stop.
    """
    die_with(driver)
    for number in DRIVERS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
    with contextlib.suppress(EOFError, OSError):
        hello = decode(connection.recv_bytes())
        os.environ.update(hello["environment"])
        keep_freed_memory()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # What a task printed is in its log even when the worker is killed.
            sys.stdout.reconfigure(line_buffering=True)
        if hello["guard_every_s"] is not None:
            pause = partial(time.sleep, hello["guard_every_s"])
            threading.Thread(target=guard, args=(driver, pause), name="guard", daemon=True).start()
        orders = _Orders(connection)
        desk = _Desk(hello)
        while True:
            connection.send_bytes(encode(desk.work(*orders.next())))


def die_with(driver: int) -> None:
    """Have the kernel kill this process when its driver (its parent) ends, even one that is stuck in C code."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != driver:  # it ended before the line above
        os._exit(1)


def _limit_memory(more_bytes: int | None) -> None:
    """Have the system refuse this process more than so many bytes more: the task at hand fails, the worker goes on.

    RLIMIT_DATA counts the private memory that may be written to. RLIMIT_AS would count what is only reserved too, of
    which CUDA takes terabytes.
    """
    if more_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = _own_memory() + more_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def named_limit(answer: Message, more_bytes: int | None) -> Message:
    """The answer, where the limit refused the task its memory with the limit in its words: Python names none."""
    failure = answer.get("failure")
    if more_bytes is None or failure is None or failure["kind"] != "memory" or _is_of_device(failure["message"]):
        return answer
    message = (
        f"out of memory: a worker may take {more_bytes / 2**30:g} GiB for its data and its trial "
        f"(executor.memory_gib); raise that, or make the networks or the batch smaller ({failure['message']})"
    )
    return {**answer, "failure": {**failure, "message": message}}


def _is_of_device(message: str) -> bool:
    """Whether it was a device that had no memory left, of which the limit says nothing."""
    return any(sign in message.lower() for sign in ("cuda", "cublas", "cudnn"))


def _own_memory() -> int:
    """Bytes that RLIMIT_DATA counts of this process; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:")), 0)


class _Orders:
    """Listens to the driver, in a thread; ends the process when there is nobody to listen to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tasks: queue.SimpleQueue[tuple[Message, threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def next(self) -> tuple[Message, threading.Event]:
        """Wait for a task; return its order and the event that is set when it should stop."""
        return self._tasks.get()

    def _listen(self) -> None:
        stop = threading.Event()
        try:
            while True:
                order = decode(self._connection.recv_bytes())
                if "stop" in order:
                    stop.set()
                else:
                    stop = threading.Event()
                    self._tasks.put((order, stop))
        finally:
            # Not sys.exit: the main thread may be inside a handler that would go on for hours.
            os._exit(1)


class _Desk:
    """Runs one task after the other with the same handler, which it makes at the first."""

    def __init__(self, hello: Message) -> None:
        self._target: str = hello["target"]
        self._setup: Message = hello["setup"]
        self._memory_bytes: int | None = hello["memory_bytes"]
        self._handler: Handler | None = None
        self._watch = LogWatch()

    def work(self, order: Message, stop: threading.Event) -> Message:
        """Run a task with its output in its log, and return the answer."""
        log = Path(order["log"])
        answer = attempt(lambda: self._prepare(log), order["run"], stop.is_set, log=log, clock=time.monotonic)
        _flush()
        self._watch.look()
        return answer if self._handler is None else named_limit(answer, self._memory_bytes)

    def _prepare(self, log: Path) -> Handler:
        _redirect(log)
        self._watch.follow(log)
        if self._handler is None:
            self._handler = resolve(self._target)(self._setup)
            _limit_memory(self._memory_bytes)
        return self._handler


def _redirect(log: Path) -> None:
    """Append standard output and error of this process, C code and children included, to a file.

    They stay there until the next task, so that what a worker prints late does not reach the driver's own output,
    which is data.
    """
    _flush()
    file = open_log(log)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if file > 2:
        os.close(file)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # None in a process without terminal; a full disk or a stream that user code closed is no reason to die.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
