"""An executor in the driver's own process: for tabular benchmarks, whose trials cost nothing, and for a debugger.

Refuses what needs a second process: it does not redirect output, keeps no limit of time or memory, and dies with its
task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasflow_cli.core.registry import EXECUTORS
from nasflow_cli.execute.boundary import Message, attempt, decode, encode, lost, outcome_of, resolve
from nasflow_cli.execute.log import make_folder
from nasflow_cli.execute.protocol import Executor, Handler, Outcome, Slot, Task


class InlineExecutor(Executor):
    """One slot; a task runs inside the `collect` that returns its outcome, which waits for it whatever the timeout.

    Keeps the contract of `Executor`. A KeyboardInterrupt breaks the task off and leaves `collect`; `stop` then calls
    the task interrupted.
    """

    def __init__(self, handler: Callable[[], Handler], clock: Callable[[], float]) -> None:
        """`handler` makes the handler, at the first task; a failure of it is a failure of the task at hand."""
        self._make = handler
        self._handler: Handler | None = None
        self._clock = clock
        self._held: tuple[Task, Message, float] | None = None
        self._closed = False

    @property
    def slots(self) -> int:
        """One."""
        return 1

    @property
    def running(self) -> frozenset[int]:
        """The number of the task that waits for `collect`, if there is one."""
        return frozenset() if self._held is None else frozenset({self._held[0].number})

    def submit(self, task: Task) -> None:
        """Hold the task until `collect`. Raises ValueError as the contract says."""
        if self._closed:
            raise ValueError("the executor is closed")
        if self._held is not None:
            raise ValueError(f"task {task.number} submitted, but no slot is free")
        try:
            payload = decode(encode(task.payload))
        except TypeError as error:
            raise ValueError(f"the payload of task {task.number} is not JSON: {error}") from error
        self._held = (task, payload, self._clock())

    def collect(self, timeout_s: float | None) -> list[Outcome]:
        """Run the task that is held, in the calling thread."""
        if self._held is None:
            return []
        task, payload, started = self._held
        message = attempt(lambda: self._ready(task.log), payload, lambda: False, log=task.log, clock=self._clock)
        return self._release(outcome_of(task, message, started=started, finished=self._clock()))

    def stop(self, grace_s: float) -> list[Outcome]:
        """Call the task that is held interrupted: it has not begun, or an exception in `collect` broke it off."""
        if self._held is None:
            return []
        task, _, started = self._held
        return self._release(lost(task, None, started=started, finished=self._clock()))

    def close(self) -> None:
        """Forget the task and the handler."""
        self._closed = True
        self._held = self._handler = None

    def _ready(self, log: Path) -> Handler:
        make_folder(log)
        if self._handler is None:
            self._handler = self._make()
        return self._handler

    def _release(self, outcome: Outcome) -> list[Outcome]:
        self._held = None
        return [outcome]


@EXECUTORS.register("inline")
def make_inline(
    target: str,
    setup: Mapping[str, Any],
    slots: Sequence[Slot],
    task_limit_s: float | None,
    clock: Callable[[], float],
) -> Executor:
    """The driver's own process. `slots` and `task_limit_s` do not apply to it."""
    plain = decode(encode(setup))
    return InlineExecutor(lambda: resolve(target)(plain), clock)
