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
    """First signal: wind down. Second: leave now; the workers end with the block around this one."""

    def handle(number: int, _frame: FrameType | None) -> None:
        code = SIGNALS[signal.Signals(number)]
        if stop.why is not None:
            sys.exit(code)
        stop.why, stop.exit_code = f"{signal.Signals(number).name} received", code

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
