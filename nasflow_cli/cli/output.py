"""Writing to the two streams: stdout is data, stderr is everything said to a person."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import typer


def emit(data: str | os.PathLike[str] | dict[str, Any]) -> None:
    """Write data: a text, a path, or one JSON document. A reader that has left ends the command without a fuss."""
    text = json.dumps(data, indent=2) if isinstance(data, dict) else os.fspath(data)
    try:
        typer.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Pointed elsewhere so that the interpreter's last flush is silent too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def say(line: str) -> None:
    """Tell a person."""
    typer.echo(line, err=True)
