"""Executors: they run tasks somewhere. They know nothing of what a task means.

Importing this package registers those that ship with nasflow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasflow_cli.core.registry import EXECUTORS
from nasflow_cli.execute import cluster, inline, local
from nasflow_cli.execute.clock import steady
from nasflow_cli.execute.protocol import Executor, Slot

if TYPE_CHECKING:  # every worker imports this package, and the settings cost more than all of it
    from nasflow_cli.core.executor_config import ExecutorConfig

__all__ = ["cluster", "inline", "local", "make_executor"]


def make_executor(
    settings: ExecutorConfig,
    target: str,
    setup: Mapping[str, Any],
    slots: Sequence[Slot],
    task_limit_s: float | None,
) -> Executor:
    """Make the executor that the settings name. `slots` are those of this machine, which a cluster does not use.

    Raises MissingError when what it needs is not there.
    """
    more: tuple[Any, ...] = ()
    if settings.cluster is not None:
        more = (
            cluster.Cluster(
                address=settings.cluster,
                workers=settings.workers,
                children_per_device=settings.children_per_device,
            ),
        )
    clock = steady(time.time, time.monotonic)
    executor: Executor = EXECUTORS[settings.kind].make(target, setup, slots, task_limit_s, clock, *more)
    return executor
