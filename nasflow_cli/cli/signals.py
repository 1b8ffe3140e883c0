"""Signals become a wish to stop, for every command that works for long."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from nasflow_cli.core.errors import EXIT_SIGINT, EXIT_SIGTERM, EXIT_STOPPED_EARLY

if TYPE_CHECKING:
    from nasflow_cli.search import Stop

SIGNALS = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM, signal.SIGUSR1: EXIT_STOPPED_EARLY}


@contextmanager
def heeded(stop: Stop) -> Iterator[None]:
    """First signal: wind down. Second: leave now; the workers end with the block around this one.

    Signals are counted: a stop that something else has wished for is not hastened by the first.
    """
    codes: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        codes.append(SIGNALS[signal.Signals(number)])
        if len(codes) > 1:
            # Not SystemExit: inside a task of this process that would be the task's failure.
            raise KeyboardInterrupt
        if stop.why is None:
            stop.why, stop.exit_code = f"{signal.Signals(number).name} received", codes[0]

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        if len(codes) < 2:
            raise
        sys.exit(codes[-1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
