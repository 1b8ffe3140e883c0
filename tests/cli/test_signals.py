"""Signals while a task runs in the driver's own process."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nasflow_cli.cli.signals import heeded, leave_on_signals
from nasflow_cli.execute.inline import InlineExecutor
from nasflow_cli.execute.protocol import Outcome, Task
from nasflow_cli.search import Stop

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 75}


def signalled(folder: Path, stop: Stop, *numbers: int) -> list[Outcome]:
    """Run a task that gets these signals, with a driver that heeds them."""

    def task(payload: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        for number in numbers:
            signal.raise_signal(number)
        return payload

    with InlineExecutor(lambda: task, time.monotonic) as executor, heeded(stop):
        executor.submit(Task(number=0, payload={}, log=folder / "log.txt"))
        return executor.collect(None)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Give every signal its default, as in a shell without nohup, and put back what was."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in CODES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("second", CODES)
@pytest.mark.parametrize("first", CODES)
def test_of_two_signals_the_first_decides_the_exit_code(
    tmp_path: Path, first: signal.Signals, second: signal.Signals
) -> None:
    stop = Stop()
    if first is second is signal.SIGHUP:  # shell and kernel each send it when a terminal is closed
        signalled(tmp_path, stop, first, second)
        assert (stop.why, stop.exit_code) == ("SIGHUP received", 129)
        return

    with pytest.raises(SystemExit) as ended:  # and is no failure of the task at hand
        signalled(tmp_path, stop, first, second)

    assert (ended.value.code, stop.exit_code) == (CODES[first], CODES[first])
    assert signal.getsignal(first) is signal.SIG_DFL


@pytest.mark.parametrize("late", CODES)
def test_a_signal_while_a_stopped_search_winds_up_changes_its_exit_code_no_more(
    tmp_path: Path, late: signal.Signals
) -> None:
    leave_on_signals()
    signalled(tmp_path, Stop(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(late)

    assert ended.value.code == 143


@pytest.mark.parametrize("number", CODES)
def test_a_command_that_is_soon_over_is_ended_by_each_signal_with_its_code(number: signal.Signals) -> None:
    leave_on_signals()

    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(number)

    assert ended.value.code == CODES[number]


def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    leave_on_signals()
    stop = Stop()

    (outcome,) = signalled(tmp_path, stop, signal.SIGHUP, signal.SIGHUP)

    assert (outcome.failure, stop.why) == (None, None)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_the_first_signal_after_a_time_limit_lets_the_task_end(tmp_path: Path) -> None:
    stop = Stop(why="the time limit is reached", exit_code=75)

    (outcome,) = signalled(tmp_path, stop, signal.SIGINT)

    assert (outcome.failure, outcome.reply) == (None, {})
    assert (stop.why, stop.exit_code) == ("the time limit is reached", 75)
