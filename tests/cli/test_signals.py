"""Signals while a task runs in the driver's own process."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasflow_cli.cli.signals import heeded
from nasflow_cli.execute.inline import InlineExecutor
from nasflow_cli.execute.protocol import Outcome, Task
from nasflow_cli.search import Stop


def signalled(folder: Path, stop: Stop, *numbers: int) -> list[Outcome]:
    """Run a task that gets these signals, with a driver that heeds them."""

    def task(payload: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        for number in numbers:
            signal.raise_signal(number)
        return payload

    with InlineExecutor(lambda: task, time.monotonic) as executor, heeded(stop):
        executor.submit(Task(number=0, payload={}, log=folder / "log.txt"))
        return executor.collect(None)


def test_a_second_signal_ends_the_command_and_is_no_failure_of_the_task_at_hand(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        signalled(tmp_path, Stop(), signal.SIGINT, signal.SIGTERM)

    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_signal_after_a_time_limit_lets_the_task_end(tmp_path: Path) -> None:
    stop = Stop(why="the time limit is reached", exit_code=75)

    (outcome,) = signalled(tmp_path, stop, signal.SIGINT)

    assert (outcome.failure, outcome.reply) == (None, {})
    assert (stop.why, stop.exit_code) == ("the time limit is reached", 75)
