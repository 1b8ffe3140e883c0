"""What a worker runs that streams its data with loader processes, and tells who they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from nasflow_cli.train.worker import opened
from nasflow_cli.train.worker_data import DataHolder, WorkerData


def build(setup: Mapping[str, Any]) -> Callable[[dict[str, Any], Callable[[], bool]], dict[str, Any]]:
    holder = DataHolder(*opened(setup), "search")

    def read(data: WorkerData) -> int:
        return sum(len(batch) for batch in data.train.in_turn(100))

    def handle(payload: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        notes: list[str] = []
        seen = holder.use(read, notes)
        loader = holder.get().loader
        running = None if loader is None else loader._loader._iterator  # type: ignore[union-attr]
        processes = [process.pid for process in getattr(running, "_workers", ())]
        return {"seen": seen, "pid": os.getpid(), "loaders": processes, "notes": notes}

    return handle
