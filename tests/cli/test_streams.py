"""What a command does when the one who reads its output has gone."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from nasflow_cli.cli.output import emit, say
from nasflow_cli.cli.progress import LiveProgress, progress
from nasflow_cli.core.errors import MissingError


def test_a_search_goes_on_without_the_terminal_that_showed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, ours = pty.openpty()
    os.close(terminal)
    with open(ours, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(stream, "isatty", lambda: True)  # the system says no once the other end is closed
        monkeypatch.setattr(sys, "stderr", stream)

        with progress(10) as shown:
            assert isinstance(shown, LiveProgress)
            shown.note("run directory: run")
            shown.stopping("SIGTERM received", 1)
        say("stopped early")
        monkeypatch.undo()


def test_data_for_a_terminal_that_was_closed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, ours = pty.openpty()
    os.close(terminal)
    with open(ours, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        emit("runs/a")
        emit("runs/b")


def test_data_that_nobody_wants_to_read_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        emit("runs/a")
        emit("runs/b")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_data_that_does_not_fit_on_the_disk_is_an_error_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        with pytest.raises(MissingError, match="cannot write to standard output: No space left"):
            emit("runs/a")
