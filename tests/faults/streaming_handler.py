"""What a worker runs that streams the digits with two loader processes, and tells who they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from nasflow_cli.core.config import DataConfig
from nasflow_cli.train.data import select
from nasflow_cli.train.data.store import open_stored
from nasflow_cli.train.streamed import Loader, Streamed


def build(setup: Mapping[str, Any]) -> Callable[[dict[str, Any], Callable[[], bool]], dict[str, Any]]:
    splits, stored = open_stored(Path(setup["folder"]), select(DataConfig(source="digits")))
    loader = Loader(stored, torch.device("cpu"), 2)
    feed = Streamed(loader, 0, [splits.train])

    def handle(payload: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        seen = sum(len(batch) for batch in feed.in_turn(100))
        processes = loader._loader._iterator._workers  # type: ignore[union-attr]
        return {"seen": seen, "pid": os.getpid(), "loaders": [process.pid for process in processes]}

    return handle
