"""Writing to the two streams: stdout is data, stderr is everything said to a person.

A reader that leaves (`| head -1`), a stream that was never there (`>&-`) or a terminal that is gone ends no command and
changes no exit code: a search goes on for days without its audience.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

import typer

from nasflow_cli.core.errors import MissingError

READABLE = 2**20
"""Characters of a JSON document that is indented; indenting a longer one takes most of the time of its command."""


def open_streams() -> None:
    """Give the standard streams that the caller closed to the null device.

    Else the next file that is opened, the journal perhaps, would get their number, and with it what C code and
    children write to them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number, which is this one
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", line_buffering=True)


def emit(data: str | os.PathLike[str] | dict[str, Any]) -> None:
    """Write data: a text, a path, or one JSON document. Raises MissingError when it cannot be kept (a full disk)."""
    text = _document(data) if isinstance(data, dict) else os.fspath(data)
    with _as_data(sys.stdout):
        typer.echo(text)
        sys.stdout.flush()


def _document(data: dict[str, Any]) -> str:
    """One JSON document, indented for people where it is not too long for them."""
    text = json.dumps(data)
    return json.dumps(data, indent=2) if len(text) <= READABLE else text


@contextlib.contextmanager
def data_stream() -> Iterator[None]:
    """Hold what others write to stdout inside this block, as Typer does its help, to the rules of `emit`."""
    before = sys.stdout
    sys.stdout = cast("TextIO", _DataStream(before))
    try:
        yield
        sys.stdout.flush()
    except SystemExit:
        sys.stdout.flush()
        raise
    finally:
        sys.stdout = before


class _DataStream:
    """A stream whose writes end as those of `emit` do; in all else it is the one behind it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if text == "":  # whoever tries so whether this is a stream of text passes over what is raised
            return 0
        with _as_data(self._stream):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _as_data(self._stream):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _as_data(stream: TextIO) -> Iterator[None]:
    """Let a reader leave; raise MissingError where what is written inside this block cannot be kept."""
    try:
        yield
    except BrokenPipeError:
        _silence(stream)
    except OSError as error:
        is_terminal = stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
        _silence(stream)
        if is_terminal and error.errno == errno.EIO:  # it was closed
            return
        raise MissingError(f"cannot write to standard output: {error.strerror or error}") from error


def say(line: str) -> None:
    """Tell a person, if there still is one."""
    with to_a_person():
        typer.echo(line, err=True)


@contextlib.contextmanager
def to_a_person() -> Iterator[None]:
    """Write to stderr inside this block; when that is gone, this and all that follows goes nowhere."""
    try:
        yield
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Point a stream elsewhere, so that later writes and the interpreter's last flush are silent too."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
