"""A local executor with one worker, whose clock a test sets."""

from __future__ import annotations

from pathlib import Path

from one_task import OneTask

from nasflow_cli.execute.local import LocalExecutor
from nasflow_cli.execute.protocol import Slot


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench(OneTask):
    """One local executor with one slot."""

    def __init__(self, tmp_path: Path, *, limit_s: float | None = 10.0, memory_bytes: int | None = None) -> None:
        self.clock = Clock()
        self.log = tmp_path / "log.txt"
        slot = Slot(name="cpu:0", environment={"OMP_NUM_THREADS": "3"}, memory_bytes=memory_bytes)
        self.executor = LocalExecutor("handlers:build", {}, [slot], limit_s, self.clock)
