"""An executor with one persistent process a slot, on this machine.

Refuses to share a process between slots, to pickle what users write, and to leave a worker behind: workers are
killed by `close`, at the driver's exit, and by the kernel when the driver is.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from nasflow_cli.core.registry import EXECUTORS
from nasflow_cli.execute.boundary import Message, lost, outcome_of, plain
from nasflow_cli.execute.halted import HALTED_LIMIT_S, LOOK_EVERY_S, HaltWatch
from nasflow_cli.execute.process import WorkerProcess, death_of, signals_held
from nasflow_cli.execute.protocol import Executor, Failure, Outcome, Slot, Task

POISON = "CUDA error"
"""After such an error (a failed device-side assertion, say) every later CUDA call of the same process fails too."""


@dataclass(slots=True, kw_only=True)
class _Seat:
    """A slot with its worker and its task; a task without worker has just lost it.

    `started` is when the task was submitted, `excused_s` the part of the time since then that counts for no limit.
    `unsure` is set while a step is taken that a signal could cut in two: a message read, a worker ended. What it
    leaves is thrown away by `LocalExecutor._mend`.
    """

    slot: Slot
    worker: WorkerProcess | None = None
    task: Task | None = None
    started: float = 0.0
    excused_s: float = 0.0
    unsure: bool = False


class LocalExecutor(Executor):
    """Keeps the contract of `Executor` with processes made by multiprocessing's `spawn`.

    A worker starts with the first task for its slot, is used for all that follow, and is replaced when it died. It
    imports the target once and makes one handler; while that fails, the task at hand fails with the reason. Standard
    output and error of a task are appended to its log. A worker that dies is a failure of kind `worker`; one that
    takes longer than `task_limit_s` seconds from the submission, its start included, is killed and is a failure of
    kind `timeout`. Between `collect` calls no limit is kept, and a minute or more in which `collect` was not reached
    (this process was halted, or the machine slept) counts for none. A worker that a signal has halted is killed after
    a minute and is a failure of kind `worker`, unless it is let go on before.

    Linux kills the workers when the thread that submitted the task ends: drive it from one that lives long enough.
    """

    def __init__(
        self,
        target: str,
        setup: Mapping[str, Any],
        slots: Sequence[Slot],
        task_limit_s: float | None,
        clock: Callable[[], float],
        guard_every_s: float | None = None,
    ) -> None:
        """Start nothing yet. `clock` gives seconds. Raises ValueError without a slot or when the setup is not JSON.

        With `guard_every_s` the workers look that often whether this process is halted, and end it when it stays so:
        for one that nobody waits for on its own machine.
        """
        if not slots:
            raise ValueError("an executor needs at least one slot")
        if task_limit_s is not None and task_limit_s <= 0:
            raise ValueError(f"a time limit is more than 0 seconds, not {task_limit_s}")
        self._target = target
        self._setup = plain(setup, "setup")
        self._limit_s = task_limit_s
        self._clock = clock
        self._seats = [_Seat(slot=slot) for slot in slots]
        # By number, so that a step that a signal cut off can be taken again without a second outcome.
        self._outcomes: dict[int, Outcome] = {}
        self._closed = False
        self._looked = clock()
        self._halts = HaltWatch()
        self._guard_every_s = guard_every_s
        # Before multiprocessing's own exit function, which would wait for the workers for ever.
        atexit.register(self.close)

    @property
    def slots(self) -> int:
        """How many workers there can be."""
        return len(self._seats)

    @property
    def running(self) -> frozenset[int]:
        """The numbers of the tasks that hold a slot, those whose outcome has come but was not returned included."""
        return frozenset(seat.task.number for seat in self._seats if seat.task) | frozenset(self._outcomes)

    def submit(self, task: Task) -> None:
        """Send the task to a free slot, whose worker is started if need be. Raises ValueError as the contract says."""
        if self._closed:
            raise ValueError("the executor is closed")
        if task.number in self.running:
            raise ValueError(f"task {task.number} is already running")
        if len(self.running) == self.slots:
            raise ValueError(f"task {task.number} submitted, but no slot is free")
        payload = plain(task.payload, f"payload of task {task.number}")
        self._hand_over(next(seat for seat in self._seats if seat.task is None), task, payload)

    def collect(self, timeout_s: float | None) -> list[Outcome]:
        """Wait for outcomes as the contract says, and kill what runs over its time limit."""
        self._mend()
        end = None if timeout_s is None else self._clock() + timeout_s
        while self._busy() and not self._outcomes:
            left = None if end is None else max(0.0, end - self._clock())
            waits = [wait_s for wait_s in (left, self._until_limit(), LOOK_EVERY_S) if wait_s is not None]
            heard = self._listen(min(waits))
            self._look()
            self._end_overdue()
            if not heard and left is not None and left == min(waits):
                break
        return self._take()

    def stop(self, grace_s: float) -> list[Outcome]:
        """Stop all tasks as the contract says. A worker that SIGTERM ended meanwhile counts as interrupted."""
        self._mend()
        for _, worker, _ in self._busy():
            # A worker that is gone is noticed below.
            with contextlib.suppress(OSError):
                worker.send({"stop": True})
        end = self._clock() + grace_s
        while self._busy() and self._listen(max(0.0, end - self._clock()), stopping=True):
            pass
        for seat, _, _ in self._busy():
            self._end(seat, None)
        return self._take()

    def close(self) -> None:
        """Kill all workers and forget their tasks."""
        self._closed = True
        for seat in self._seats:
            self._end(seat, None)
        self._outcomes.clear()
        atexit.unregister(self.close)

    def _busy(self) -> list[tuple[_Seat, WorkerProcess, Task]]:
        return [(seat, seat.worker, seat.task) for seat in self._seats if seat.worker and seat.task]

    def _take(self) -> list[Outcome]:
        outcomes = list(self._outcomes.values())
        self._outcomes = {}
        return outcomes

    def _hand_over(self, seat: _Seat, task: Task, payload: Message) -> None:
        """Send a task to the worker of a seat; the task fails when there can be none."""
        seat.started, seat.excused_s = self._clock(), 0.0
        try:
            worker = self._ready_worker(seat)
            seat.task = task
            worker.send({"run": payload, "log": str(task.log.absolute())})
        except OSError as error:
            seat.task = task
            message = f"no worker can be started for {seat.slot.name}: {error}"
            self._end(seat, Failure(kind="worker", message=message))

    def _ready_worker(self, seat: _Seat) -> WorkerProcess:
        """The worker of a seat without task: the one it has if that can work, else a new one. Raises OSError."""
        if seat.unsure or (seat.worker is not None and (seat.worker.is_halted or not seat.worker.is_alive)):
            self._end(seat, None)
        if seat.worker is None:
            hello = {
                "target": self._target,
                "setup": self._setup,
                "environment": dict(seat.slot.environment),
                "memory_bytes": seat.slot.memory_bytes,
                "guard_every_s": self._guard_every_s,
            }
            with signals_held():
                seat.worker = WorkerProcess(f"nasflow {seat.slot.name}")
                seat.worker.send(hello)
        return seat.worker

    def _listen(self, timeout_s: float | None, *, stopping: bool = False) -> bool:
        """Wait until a busy worker speaks or dies, and take in what all that did so have to say. False on timeout."""
        busy = self._busy()
        ready = wait([sign for _, worker, _ in busy for sign in (worker.connection, worker.sentinel)], timeout_s)
        for seat, worker, task in busy:
            if worker.connection in ready or worker.sentinel in ready:
                self._hear(seat, worker, task, stopping=stopping)
        return bool(ready)

    def _hear(self, seat: _Seat, worker: WorkerProcess, task: Task, *, stopping: bool) -> None:
        """Take in the answer of a worker, or its death."""
        seat.unsure = True
        message = worker.receive()
        if message is None:
            code = worker.await_death()
            # SIGTERM to the whole process group was meant for the driver, which passes it on as a stop.
            meant = stopping and code == -signal.SIGTERM
            self._end(seat, None if meant else Failure(kind="worker", message=f"worker died: {death_of(code)}"))
            return
        outcome = outcome_of(task, message, started=seat.started, finished=self._clock())
        self._outcomes.setdefault(task.number, outcome)
        seat.task = None
        if outcome.failure is not None and POISON in outcome.failure.message:
            self._end(seat, None)
        seat.unsure = False

    def _until_limit(self) -> float | None:
        """Seconds until the first running task is over its time limit; None without a limit."""
        if self._limit_s is None:
            return None
        return min((max(0.0, self._left(seat)) for seat, _, _ in self._busy()), default=None)

    def _left(self, seat: _Seat) -> float:
        if self._limit_s is None:
            return math.inf
        return seat.started + seat.excused_s + self._limit_s - self._clock()

    def _look(self) -> None:
        """Every few seconds: excuse the time in which this process was halted, and end workers that are halted."""
        now = self._clock()
        if now - self._looked < LOOK_EVERY_S:
            return
        busy = self._busy()
        given_up = self._halts.look(worker.pid for _, worker, _ in busy)
        for seat, worker, _ in busy:
            unseen_s = now - max(self._looked, seat.started)
            if unseen_s > HALTED_LIMIT_S:  # this process must have been halted itself
                seat.excused_s += unseen_s
            if worker.pid in given_up:
                message = f"its worker was halted by a signal and not let go on for {HALTED_LIMIT_S:g} s; it was killed"
                self._end(seat, Failure(kind="worker", message=message))
        self._looked = now

    def _end_overdue(self) -> None:
        for seat, _, _ in self._busy():
            if self._left(seat) <= 0:
                message = f"no result after {self._limit_s:g} s, the time limit of a trial; its worker was killed"
                self._end(seat, Failure(kind="timeout", message=message))

    def _mend(self) -> None:
        """Throw away what a step that was cut in two has left; its task counts as interrupted."""
        for seat in self._seats:
            if seat.unsure:
                self._end(seat, None)

    def _end(self, seat: _Seat, failure: Failure | None) -> None:
        """End the worker of a seat and, with it, its task: by a failure, or without one by an interruption."""
        seat.unsure = True
        if seat.worker is not None:
            seat.worker.end()
        seat.worker = None
        if seat.task is not None:
            outcome = lost(seat.task, failure, started=seat.started, finished=self._clock())
            self._outcomes.setdefault(outcome.number, outcome)
        seat.task = None
        seat.unsure = False


@EXECUTORS.register("local")
def make_local(
    target: str,
    setup: Mapping[str, Any],
    slots: Sequence[Slot],
    task_limit_s: float | None,
    clock: Callable[[], float],
) -> Executor:
    """Processes on this machine, one a slot."""
    return LocalExecutor(target, setup, slots, task_limit_s, clock)
