"""An executor that is given one task after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signpost import PATIENCE_S

from nasflow_cli.execute.protocol import Executor, Failure, Outcome, Task


class OneTask:
    """Hands out a task, and waits for how it ends."""

    executor: Executor
    log: Path

    def submit(self, number: int = 0, **payload: Any) -> None:
        self.executor.submit(Task(number=number, payload=payload, log=self.log))

    def collect(self) -> Outcome:
        (outcome,) = self.executor.collect(PATIENCE_S)
        return outcome

    def collect_failure(self) -> Failure:
        """How the task that runs fails."""
        failure = self.collect().failure
        assert failure is not None
        return failure

    def reply(self, **payload: Any) -> dict[str, Any]:
        """What a task comes to."""
        self.submit(**payload)
        reply = self.collect().reply
        assert reply is not None
        return reply

    def failure(self, **payload: Any) -> Failure:
        """How a task fails."""
        self.submit(**payload)
        return self.collect_failure()
