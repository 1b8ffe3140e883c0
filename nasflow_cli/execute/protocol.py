"""What an executor takes and gives. A task is a JSON object in, a JSON object out; what it means is not known here.

Refuses an outcome that is two things at once, and callables as tasks: what runs is named once, for all tasks, by a
target `module:function`, so that nothing has to be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from nasflow_cli.core.trial import ErrorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of work. `payload` is a JSON object; `log` is the file to which its output is appended."""

    number: int
    payload: Mapping[str, Any]
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task has no reply. `message` is one line; the traceback, if there is one, is in the task's log."""

    kind: ErrorKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a task ended: a reply, a failure, or an interruption after which it can be submitted again.

    `seconds` is the time that the handler took, or, when the worker could not tell, the time since the submission.
    `started` (submitted) and `finished` (heard of) are readings of the executor's clock.
    """

    number: int
    reply: dict[str, Any] | None = None
    failure: Failure | None = None
    interrupted: bool = False
    seconds: float = 0.0
    started: float = 0.0
    finished: float = 0.0

    def __post_init__(self) -> None:
        if (self.reply is not None) + (self.failure is not None) + self.interrupted != 1:
            raise ValueError("an outcome is exactly one of a reply, a failure and an interruption")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place for one task at a time. `environment` is set in its worker before the target is imported.

    `memory_bytes` is the most that its tasks may take of the memory that its worker alone uses, beside what the target
    took (not on a device, not mapped files); None: no limit.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int | None = None


class Handler(Protocol):
    """What runs in a worker, once a task.

    It takes the payload and returns a JSON object. It may raise: `Interrupted` after a safe stop that `should_stop`
    asked for, anything else is a failure, of the kind that the exception's `error_kind` names when it has one. It asks
    `should_stop` wherever it could stop without losing work.
    """

    def __call__(self, payload: dict[str, Any], should_stop: Callable[[], bool], /) -> dict[str, Any]:
        """Do the task."""
        ...


Target = Callable[[Mapping[str, Any]], Handler]
"""What the name `module:function` stands for: it is called once a worker, with the setup, and makes the handler."""


class Executor(Protocol):
    """Runs tasks. The caller's thread drives it, and only one does: nothing happens between two calls but the work.

    Payloads and replies cross as JSON: a tuple comes back as a list, a key as a string. An executor has a fixed
    number of slots, and each task that is submitted holds one until its outcome is returned by `collect` or `stop`;
    every task gets exactly one outcome.

    An exception that a signal handler raises may leave `submit`, `collect` or `stop`: a task is then still running or
    was never taken, as `running` tells, and `stop` and `close` work as ever.
    """

    @property
    def slots(self) -> int:
        """How many tasks can run at once."""
        ...

    @property
    def slots_a_machine(self) -> int:
        """How many tasks can run at once on one machine, at most."""
        return self.slots

    @property
    def running(self) -> frozenset[int]:
        """The numbers of the tasks that hold a slot."""
        ...

    def submit(self, task: Task) -> None:
        """Take a task and return without waiting for it.

        Raises ValueError when no slot is free, the number is already running, the payload is not a JSON object, or
        the executor is closed.
        """
        ...

    def collect(self, timeout_s: float | None) -> list[Outcome]:
        """Wait for at least one outcome, at most `timeout_s` seconds (None: for ever), and return all there are.

        Returns an empty list on timeout, and at once when nothing is running.
        """
        ...

    def stop(self, grace_s: float) -> list[Outcome]:
        """Ask all running tasks to stop at their next safe point; after `grace_s` seconds end those that have not.

        Returns one outcome for each task that was running: an interruption, unless it ended by itself in that time.
        Afterwards nothing runs, and tasks can be submitted again.
        """
        ...

    def close(self) -> None:
        """End all workers now, whatever they are doing, and forget their tasks. A second call does nothing."""
        ...

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
