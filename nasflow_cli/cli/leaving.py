"""What is said of work that a signal cut off at once: that it is no loss, and the command that goes on with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nasflow_cli.cli.output import emit, say
from nasflow_cli.core.errors import MissingError


@contextlib.contextmanager
def cut_off(command: str, data: os.PathLike[str] | None = None) -> Iterator[None]:
    """When the block around the workers is left by a signal, and they have ended, name the command that goes on.

    `data` is the line that stdout ends with, also then. The exit code stays the signal's, whatever becomes of the text.
    """
    try:
        yield
    except SystemExit:
        say(f"left at once, what is recorded is kept; go on with: {command}")
        if data is not None:
            with contextlib.suppress(MissingError):
                emit(data)
        raise
