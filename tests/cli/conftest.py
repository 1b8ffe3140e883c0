"""Calls the command line as a shell would, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runs"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from tiny import run, write_config

from nasflow_cli.cli import app


class Called(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Called]


@pytest.fixture
def nasflow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line in this process."""
    monkeypatch.setattr(app, "leave_on_signals", lambda: None)

    def call(*arguments: str | Path) -> Called:
        monkeypatch.setattr(sys, "argv", ["nasflow", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        return Called(code if isinstance(code, int) else 0 if code is None else 1, out, err)

    return call


def start(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "nasflow_cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def shell(*arguments: str | Path, cwd: Path, **environment: str) -> Called:
    """Run the command line in a process of its own, to its end."""
    process = start(*arguments, cwd=cwd, **environment)
    out, err = process.communicate(timeout=120)
    return Called(process.returncode, out, err)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished tiny search: (configuration, run directory)."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_config(folder / "tiny.yaml")
    assert run(config, folder / "run").finished
    return config, folder / "run"
