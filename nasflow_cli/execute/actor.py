"""What nasflow has on a node of a Ray cluster: an actor that holds the node's resources and one worker process.

The worker is that of `local.py`, so that a trial runs as it does without Ray: its log, its limits of time and memory,
its signals, its numbers. Refuses to work where the run directory is not seen, and to take or give anything but bytes
of JSON. It is a plain class, which `bridge.py` makes an actor of.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path

import nasflow_cli
from nasflow_cli.execute.boundary import Message, decode, encode, failure_of, message_of
from nasflow_cli.execute.clock import steady
from nasflow_cli.execute.local import LocalExecutor
from nasflow_cli.execute.log import LogError
from nasflow_cli.execute.protocol import Slot, Task
from nasflow_cli.execute.ray_node import node_id
from nasflow_cli.execute.worker import HELD_SIGNALS

STOP_EVERY_S = 0.1
"""How often a running task is asked whether it should stop."""


class Actor:
    """One task at a time; `stop` may be called meanwhile, so two calls must be able to run at once.

    Each task has a serial number, so that a wish to stop that comes late stops no other.
    """

    def __init__(self, hello: bytes) -> None:
        """`hello` is what `bridge.py` says of all tasks.

        Its `look_every_s` is how often the worker looks whether this process is halted, which no other here would see.
        Of `path`, the driver's `sys.path`, what is not known here is searched last. Raises RuntimeError when nasflow
        has another version here.
        """
        said = decode(hello)
        if said["version"] != nasflow_cli.__version__:
            raise RuntimeError(
                f"nasflow is {nasflow_cli.__version__} on {socket.gethostname()} and {said['version']} at the driver; "
                "install the same version on every node"
            )
        sys.path.extend(entry for entry in said["path"] if entry not in sys.path)
        # Ray's own main module is nothing that a worker process should import.
        vars(sys.modules["__main__"]).pop("__file__", None)
        os.umask(said["umask"])
        slot = Slot(
            name=f"{socket.gethostname()}:{os.getpid()}",
            environment={**said["environment"], **said["on_nodes"].get(node_id(), {})},
            memory_bytes=said["memory_bytes"],
        )
        clock = steady(time.time, time.monotonic)
        self._executor = LocalExecutor(
            said["target"], said["setup"], [slot], said["limit_s"], clock, guard_every_s=said["look_every_s"]
        )
        # The kernel ends the worker with the thread that started it; Ray's threads are not ours.
        self._lane = ThreadPoolExecutor(max_workers=1, initializer=hold_signals)
        self._wish: tuple[int, float] | None = None

    def ready(self) -> bytes:
        """Say who this is, as long as it is."""
        return encode({"host": socket.gethostname(), "pid": os.getpid()})

    def work(self, order: bytes) -> bytes:
        """Do `{"serial", "number", "run": payload, "log": path}`; a message like that of `boundary.attempt`."""
        return self._lane.submit(self._work, decode(order)).result()

    def stop(self, serial: int, grace_s: float) -> None:
        """Ask a task to stop at its next safe point, and end it after `grace_s` seconds."""
        self._wish = (serial, grace_s)

    def _work(self, order: Message) -> bytes:
        try:
            log = Path(order["log"])
            look_for(log.parent)
        except LogError as error:
            failure = failure_of(error)
            return encode({"failure": {"kind": failure.kind, "message": failure.message}, "seconds": 0.0})
        self._executor.submit(Task(number=order["number"], payload=order["run"], log=log))
        while True:
            wish = self._wish
            if wish is not None and wish[0] == order["serial"]:
                outcomes = self._executor.stop(wish[1])
            else:
                outcomes = self._executor.collect(STOP_EVERY_S)
            if outcomes:
                return encode(message_of(outcomes[0]))


def hold_signals() -> None:
    """Keep the driver's signals from this thread, as they are from all others of an actor of a Ray started here."""
    resource_tracker.ensure_running()  # it would let them in again
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)


def look_for(folder: Path) -> None:
    """Raise LogError when a folder that the driver has made is not seen here.

    To make it would be worse: the trial would train into a place that nobody looks at.
    """
    if folder.is_dir():
        return
    # A network file system may remember for a while that it was not there; listing its parent asks anew.
    seen = folder.parent.is_dir() and folder.name in os.listdir(folder.parent)
    if not seen:
        raise LogError(
            f"the Ray node {socket.gethostname()} does not see {folder}; the run directory has to be on a file system "
            "that every node sees at the same path, and the driver too"
        )
