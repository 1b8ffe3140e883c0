"""Signals become a wish to stop, for every command that works for long, and the end of every other.

The first one decides the exit code: a job script would queue again what was told to stop, if a later SIGUSR1 did.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from nasflow_cli.core.errors import EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM, EXIT_STOPPED_EARLY

if TYPE_CHECKING:
    from nasflow_cli.search import Stop

SIGNALS = {
    signal.SIGINT: EXIT_SIGINT,
    signal.SIGTERM: EXIT_SIGTERM,
    signal.SIGHUP: EXIT_SIGHUP,
    signal.SIGUSR1: EXIT_STOPPED_EARLY,
}


class _Leave:
    """What a signal does while a command heeds none: it ends the process, by the first signal's exit code."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.first is None:
            self.first = signal.Signals(number)
        elif _is_repeated(self.first, number):
            return
        sys.exit(SIGNALS[self.first])


def _is_repeated(first: signal.Signals, number: int) -> bool:
    """Whether a signal says what the first one said: of a terminal that closes, shell and kernel each send SIGHUP."""
    return first is signal.SIGHUP and number == signal.SIGHUP


def leave_on_signals() -> None:
    """Have each signal end this process with its exit code; some would else kill it, SIGUSR1 at any moment.

    SIGHUP stays ignored where it is: that is what `nohup` means.
    """
    leave = _Leave()
    for number in SIGNALS:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


@contextmanager
def heeded(stop: Stop) -> Iterator[None]:
    """First signal: wind down. Second: leave now; the workers end with the block around this one.

    Signals are counted: a stop that something else has wished for is not hastened by the first. What is ignored stays
    ignored. A signal that comes after this block changes the exit code of the first no more.
    """
    heard: list[signal.Signals] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if heard and _is_repeated(heard[0], number):
            return
        heard.append(signal.Signals(number))
        if len(heard) > 1:
            # Not SystemExit: inside a task of this process that would be the task's failure.
            raise KeyboardInterrupt
        if stop.why is None:
            stop.why, stop.exit_code = f"{heard[0].name} received", SIGNALS[heard[0]]

    try:
        with _taken_by(handle, heard):
            yield
    except KeyboardInterrupt:
        if len(heard) < 2:
            raise
        sys.exit(SIGNALS[heard[0]])


@contextmanager
def _taken_by(handle: Callable[[int, FrameType | None], None], heard: list[signal.Signals]) -> Iterator[None]:
    """Have `handle` take all signals that are not ignored; what takes them after this block knows the first heard."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            handler = before[number]
            if heard and isinstance(handler, _Leave):
                handler.first = heard[0]
            signal.signal(number, handler)
