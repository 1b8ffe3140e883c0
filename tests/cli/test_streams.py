"""What a command writes, and what it does when the one who reads it has gone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
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


@pytest.mark.parametrize("channel", [pty.openpty, os.pipe], ids=["terminal", "pipe"])
def test_data_that_nobody_reads_any_more_goes_nowhere_and_is_no_error(
    monkeypatch: pytest.MonkeyPatch, channel: Callable[[], tuple[int, int]]
) -> None:
    theirs, ours = channel()
    os.close(theirs)
    with open(ours, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        emit("runs/a")
        emit("runs/b")

        assert os.path.samestat(os.fstat(ours), os.stat(os.devnull))


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")


@needs_full
def test_data_that_does_not_fit_on_the_disk_is_an_error_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        with pytest.raises(MissingError, match="cannot write to standard output: No space left"):
            emit("runs/a")


@needs_full
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["search", "--help"]])
def test_help_that_cannot_be_written_ends_as_other_output_does(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "nasflow_cli", *arguments]
    read, gone = os.pipe()
    os.close(read)

    def ended(stream: int, buffered: str) -> tuple[int, str]:
        environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, text=True, check=False, env=environment)
        return done.returncode, done.stderr

    with Path("/dev/full").open("w", encoding="utf-8") as full:
        no_room = [ended(full.fileno(), buffered) for buffered in ("", "1")]
    no_reader = ended(gone, "")
    os.close(gone)
    closed = subprocess.run(["bash", "-c", '"$@" >&-', "bash", *command], capture_output=True, text=True, check=False)

    assert no_room == [(4, "nasflow: error: cannot write to standard output: No space left on device\n")] * 2
    assert (no_reader, (closed.returncode, closed.stderr)) == ((0, ""), (0, ""))


@pytest.mark.parametrize(("rows", "is_indented"), [(2, True), (100_000, False)])
def test_a_json_document_is_indented_unless_it_is_too_long_for_people(
    capsys: pytest.CaptureFixture[str], rows: int, is_indented: bool
) -> None:
    document = {"schema_version": 1, "rows": [{"number": number} for number in range(rows)]}

    emit(document)

    text = capsys.readouterr().out
    assert json.loads(text) == document
    assert ("\n  " in text) is is_indented
