"""An executor that runs tasks on a Ray cluster: one that is there, or one that is started here for this search alone.

Refuses to be part of Ray: that happens in a process of its own (`bridge.py`), so that Ray neither prints here, nor
handles this process's signals, nor ends it. Needs the extra `cluster`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import math
import re
import select
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from nasflow_cli.core.errors import MissingError
from nasflow_cli.core.registry import EXECUTORS
from nasflow_cli.execute import bridge
from nasflow_cli.execute.boundary import Message, failure_of, lost, outcome_of, plain
from nasflow_cli.execute.halted import LOOK_EVERY_S, HaltWatch
from nasflow_cli.execute.log import LogError, make_folder
from nasflow_cli.execute.process import WorkerProcess, death_of, signals_held
from nasflow_cli.execute.protocol import Executor, Failure, Outcome, Slot, Task
from nasflow_cli.execute.ray_node import private_folder
from nasflow_cli.execute.session import end_members

START_PATIENCE_S = 120.0
"""How long Ray may take to start, or a cluster to answer."""

STOP_SLACK_S = 10.0
"""How much longer than the grace period a cluster may take to say how tasks ended."""

LOST_BRIDGES = 3
"""How often a task is begun whose Ray ends each time, through no fault of the task."""

INSTALL = "pip install 'nasflow[cluster]'"

OLDEST = (2, 60)
"""The first version of Ray that was seen to ask who calls for the secret that `ray_node.HERE` is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A Ray cluster that is there, and what to take of it: at most `workers` actors, so many of them a GPU."""

    address: str
    workers: int | None = None
    children_per_device: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A task that a cluster has, how it was told, when it was submitted, and how many bridges have lost it."""

    task: Task
    order: Message
    started: float
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """A bridge that lives, or did. `folder` is what it leaves behind when it is killed."""

    process: WorkerProcess
    pid: int
    folder: Path | None

    def takes_more(self, timeout_s: float) -> bool:
        """Wait until there is room for some more messages; a bridge that is halted takes no more at last."""
        poll = select.poll()
        poll.register(self.process.connection.fileno(), select.POLLOUT)
        return bool(poll.poll(timeout_s * 1000))

    def end(self, *, at_once: bool = False) -> int | None:
        """End it, and all of a Ray that was started here. Returns what `WorkerProcess.end` returns."""
        self.process.connection.close()
        code = self.process.end() if at_once else self.process.await_death()
        if self.folder is not None:
            end_members(self.pid)
            shutil.rmtree(self.folder, ignore_errors=True)
        return code


class RayExecutor(Executor):
    """Keeps the contract of `Executor` with Ray actors, each of which has one worker process like those of `local`.

    A task waits until one of the actors is free, or can be started: on a cluster that is shared or has shrunk that may
    take its time, of which no limit is kept. What `LocalExecutor` says of logs and of the limits of time and memory
    holds on the node. An actor that dies fails its task (`worker`) and is replaced; while tasks are being stopped it
    interrupts it. When all of Ray ends, or the bridge is halted and not let go on, Ray is started or connected to anew
    and begins the tasks again; one that has so been begun three times has failed (`worker`). Where there can be no
    Ray, `collect` and `submit` raise MissingError and the tasks can only be stopped.
    """

    def __init__(self, hello: Message, clock: Callable[[], float]) -> None:
        """Start or find Ray. `hello` is what `bridge.serve` is told, `folder` left out. Raises MissingError."""
        self._hello = hello
        self._clock = clock
        self._held: dict[int, _Held] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._closed = False
        self._unsure = False
        """Set while a step is taken that a signal could cut in two; what it leaves is thrown away by `_mend`."""
        self._link: _Link | None = None
        self._looked = clock()
        self._halts = HaltWatch()
        # Before multiprocessing's own exit function, which would wait for the bridge.
        atexit.register(self.close)
        self._slots, self._on_a_node = 0, 0
        self._slots, self._on_a_node = self._connect()

    @property
    def slots(self) -> int:
        """How many actors there can be, as the cluster was at the start."""
        return self._slots

    @property
    def slots_a_machine(self) -> int:
        """How many actors a node can have at most, by Ray's resources of the nodes."""
        return self._on_a_node

    @property
    def running(self) -> frozenset[int]:
        """The numbers of the tasks that hold a slot, those whose outcome has come but was not returned included."""
        return frozenset(self._held) | frozenset(self._outcomes)

    def submit(self, task: Task) -> None:
        """Give the task to the cluster. Raises ValueError as the contract says, MissingError when Ray is no more."""
        if self._closed:
            raise ValueError("the executor is closed")
        if task.number in self.running:
            raise ValueError(f"task {task.number} is already running")
        if len(self.running) >= self.slots:
            raise ValueError(f"task {task.number} submitted, but no slot is free")
        payload = plain(task.payload, f"payload of task {task.number}")
        started = self._clock()
        try:
            make_folder(task.log)
        except LogError as error:
            self._outcomes[task.number] = lost(task, failure_of(error), started=started, finished=self._clock())
            return
        self._mend()
        if self._link is None or not self._link.process.is_alive:
            self._lose(stopping=False)
        while self._link is not None and not self._link.takes_more(LOOK_EVERY_S):
            self._look()
        order = {"number": task.number, "run": payload, "log": str(task.log.absolute())}
        self._held[task.number] = _Held(task=task, order=order, started=started)
        self._send(order)

    def collect(self, timeout_s: float | None) -> list[Outcome]:
        """Wait for outcomes as the contract says."""
        self._mend()
        end = None if timeout_s is None else self._clock() + timeout_s
        while self._held and not self._outcomes:
            left = math.inf if end is None else max(0.0, end - self._clock())
            heard = self._listen(min(left, LOOK_EVERY_S))
            self._look()
            if not heard and left <= LOOK_EVERY_S:
                break
        while self._held and self._listen(0.0):
            pass
        return self._take()

    def stop(self, grace_s: float) -> list[Outcome]:
        """Stop all tasks as the contract says. A worker that is lost meanwhile counts as interrupted."""
        self._mend()
        if self._held:
            self._send({"stop": grace_s})
        end = self._clock() + grace_s + STOP_SLACK_S
        while self._held and self._listen(max(0.0, end - self._clock()), stopping=True):
            pass
        if self._held:
            self._lose(stopping=True)
        return self._take()

    def close(self) -> None:
        """End the actors, and the Ray that was started here."""
        self._closed = True
        if self._link is not None:
            self._link.end()
        self._link = None
        self._held.clear()
        self._outcomes.clear()
        atexit.unregister(self.close)

    def _take(self) -> list[Outcome]:
        outcomes = list(self._outcomes.values())
        self._outcomes = {}
        return outcomes

    def _connect(self) -> tuple[int, int]:
        """Start a bridge and wait until it has a cluster; return its slots and those of a node. Raises MissingError."""
        folder = None
        try:
            with signals_held():  # until the folder is known to whoever removes it
                folder = private_folder() if self._hello["address"] is None else None
                process = WorkerProcess("nasflow ray", bridge.serve)
                self._link = _Link(process=process, pid=process.pid, folder=folder)
                self._post({**self._hello, "folder": None if folder is None else str(folder)})
        except OSError as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise MissingError(f"no process for Ray can be started: {error}") from error
        # Waits are counted and not seconds: the machine may sleep meanwhile.
        waits = range(int(START_PATIENCE_S / LOOK_EVERY_S))
        heard = any(wait([process.connection, process.sentinel], LOOK_EVERY_S) for _ in waits)
        message = process.receive() if heard else {"missing": f"Ray did not answer for {START_PATIENCE_S:g} s"}
        if message is not None and "ready" in message:
            return int(message["ready"]), int(message["on_a_node"])
        code = self._link.end(at_once=not heard)
        self._link = None
        where = self._hello["address"] or "started here"
        raise MissingError(
            f"Ray ({where}) ended while it was asked for a place: {death_of(code)}"
            if message is None
            else message["missing"]
        )

    def _send(self, message: Message) -> None:
        self._unsure = True
        self._post(message)
        self._unsure = False

    def _post(self, message: Message) -> None:
        if self._link is not None:
            # A bridge that is gone is noticed when it is listened to.
            with contextlib.suppress(OSError):
                self._link.process.send(message)

    def _look(self) -> None:
        """Every few seconds: see whether the bridge is halted, and give it up when it stays so."""
        now = self._clock()
        if self._link is None or now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        if self._halts.look([self._link.pid]):
            self._lose(stopping=False)

    def _listen(self, timeout_s: float, *, stopping: bool = False) -> bool:
        """Wait until the bridge speaks or dies, and take in one thing that it says. False on timeout."""
        if self._link is None:
            self._lose(stopping=stopping)
            return True
        process = self._link.process
        if not wait([process.connection, process.sentinel], timeout_s):
            return False
        self._unsure = True
        message = process.receive()
        if message is None:
            self._lose(stopping=stopping)
        else:
            self._hear(message)
        self._unsure = False
        return True

    def _hear(self, message: Message) -> None:
        """Take in how a task ended."""
        held = self._held[message["number"]]
        times = {"started": held.started, "finished": self._clock()}
        if "lost" in message:
            failure = None if message["lost"] is None else Failure(**message["lost"])
            outcome = lost(held.task, failure, **times)
        else:
            outcome = outcome_of(held.task, message, **times)
        self._outcomes.setdefault(outcome.number, outcome)
        del self._held[outcome.number]

    def _lose(self, *, stopping: bool) -> None:
        """End the bridge. All tasks are interrupted when they are being stopped, else begun anew by another bridge.

        Raises MissingError, and fails no task, when there is no Ray any more to go on with.
        """
        self._unsure = True
        code = self._link.end(at_once=True) if self._link else None
        self._link = None
        if not stopping:
            self._connect()
        for number, held in list(self._held.items()):
            self._held[number] = again = replace(held, lost=held.lost + 1)
            if stopping or again.lost == LOST_BRIDGES:
                failure = None if stopping else _given_up(code)
                outcome = lost(held.task, failure, started=held.started, finished=self._clock())
                self._outcomes.setdefault(number, outcome)
                del self._held[number]
            else:
                self._post(again.order)
        self._unsure = False

    def _mend(self) -> None:
        """Throw away what a step that was cut in two has left; all tasks count as interrupted."""
        if self._unsure:
            self._lose(stopping=True)


def _given_up(code: int | None) -> Failure:
    """The failure of a task whose Ray has ended each time, at last as the exit code of its driver says."""
    message = f"all of Ray was lost {LOST_BRIDGES} times before it ended; its driver, the last time: {death_of(code)}"
    return Failure(kind="worker", message=message)


def require_ray(*, starts: bool) -> None:
    """Raise MissingError when Ray is not installed here, or `starts` and it cannot be started here, for none but us."""
    if importlib.util.find_spec("ray") is None:
        raise MissingError(f"the executor 'ray' needs the package ray, which is not installed: {INSTALL}")
    if starts and sys.platform != "linux":
        raise MissingError("Ray is started on Linux only; start it yourself and set executor.ray.address")
    installed = _installed()
    if starts and tuple(int(number) for number in re.findall(r"\d+", installed)[:2]) < OLDEST:
        raise MissingError(
            f"Ray {installed} may let every user of this machine in; {'.'.join(map(str, OLDEST))} and newer ask for a "
            f"secret: {INSTALL}"
        )


def _installed() -> str:
    """The version of Ray that is installed. Raises MissingError for a module of that name that is not Ray."""
    try:
        return version("ray")
    except PackageNotFoundError as error:
        raise MissingError(f"there is a module 'ray', but no package of that name is installed: {INSTALL}") from error


@EXECUTORS.register("ray")
def make_ray(
    target: str,
    setup: Mapping[str, Any],
    slots: Sequence[Slot],
    task_limit_s: float | None,
    clock: Callable[[], float],
    cluster: Cluster | None = None,
) -> Executor:
    """Ray actors: one for each of `slots` on a Ray that is started here, else as many as a cluster has room for.

    There the slots only say how much memory a worker may take. Raises MissingError without the package, or without a
    cluster.
    """
    require_ray(starts=cluster is None)
    if not slots:
        raise ValueError("an executor needs at least one slot")
    if task_limit_s is not None and task_limit_s <= 0:
        raise ValueError(f"a time limit is more than 0 seconds, not {task_limit_s}")
    devices = dict.fromkeys(slot.environment.get("CUDA_VISIBLE_DEVICES", "") for slot in slots)
    hello = {
        "target": target,
        "setup": plain(setup, "setup"),
        "limit_s": task_limit_s,
        "memory_bytes": slots[0].memory_bytes,
        "look_every_s": LOOK_EVERY_S,
        "address": None if cluster is None else cluster.address,
        "workers": None if cluster is None else cluster.workers,
        "children_per_device": 1 if cluster is None else cluster.children_per_device,
        "actors": len(slots),
        "devices": [device for device in devices if device],
        "environment": dict(slots[0].environment),
    }
    return RayExecutor(hello, clock)
