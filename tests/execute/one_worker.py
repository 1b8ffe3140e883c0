"""A local executor with one worker, whose clock a test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signpost import PATIENCE_S

from nasflow_cli.execute.local import LocalExecutor
from nasflow_cli.execute.protocol import Failure, Outcome, Slot, Task


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """One local executor with one slot, and a task at a time."""

    def __init__(self, tmp_path: Path, *, limit_s: float | None = 10.0, memory_bytes: int | None = None) -> None:
        self.clock = Clock()
        self.log = tmp_path / "log.txt"
        slot = Slot(name="cpu:0", environment={"OMP_NUM_THREADS": "3"}, memory_bytes=memory_bytes)
        self.executor = LocalExecutor("handlers:build", {}, [slot], limit_s, self.clock)

    def submit(self, **payload: Any) -> None:
        self.executor.submit(Task(number=0, payload=payload, log=self.log))

    def collect(self) -> Outcome:
        (outcome,) = self.executor.collect(PATIENCE_S)
        return outcome

    def reply(self, **payload: Any) -> dict[str, Any]:
        self.submit(**payload)
        reply = self.collect().reply
        assert reply is not None
        return reply

    def failure(self, **payload: Any) -> Failure:
        self.submit(**payload)
        failure = self.collect().failure
        assert failure is not None
        return failure
