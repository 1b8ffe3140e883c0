"""A whole search on Ray, from the command line: killed, resumed, and in the end like any other."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny import run, timeless, write_config

pytest.importorskip("ray", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray is started here on Linux only")

PATIENCE_S = 300.0
"""How long each half of the search may take."""


def test_a_search_on_ray_that_was_killed_and_resumed_has_the_journal_of_one_without_ray(tmp_path: Path) -> None:
    small = {"trials": 8, "budget": {"min": 1, "max": 3, "eta": 3}}
    config = write_config(tmp_path / "tiny.yaml", search=small, executor={"kind": "local", "workers": 1})
    assert run(config, tmp_path / "local").finished
    here = tmp_path / "ray"
    search = ["search", str(config), "--run-dir", str(here), "--set", "executor.kind=ray"]
    with subprocess.Popen(
        [sys.executable, "-m", "nasflow_cli", *search], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stderr is not None
        late = threading.Timer(PATIENCE_S, killed.kill)
        late.daemon = True
        late.start()
        while "[3/8]" not in (line := killed.stderr.readline()):
            assert line, "the search ended before it was killed"
        killed.kill()
        late.cancel()

    resumed = subprocess.run(
        [sys.executable, "-m", "nasflow_cli", "resume", str(here)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )

    assert timeless(here) == timeless(tmp_path / "local")
    assert resumed.stdout == f"{here}\n"
