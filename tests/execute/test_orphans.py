"""No worker outlives its driver, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from signpost import PATIENCE_S, Signpost

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the kernel kills orphans on Linux only")

PARENT = """
import sys, time
from pathlib import Path
from nasflow_cli.execute.local import make_local
from nasflow_cli.execute.protocol import Slot, Task

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    executor = make_local("handlers:build", {}, [Slot(name="cpu:0")], None, time.time)
    payload = {"do": sys.argv[2], "signpost": sys.argv[3]}
    executor.submit(Task(number=0, payload=payload, log=Path(sys.argv[4])))
    sys.stdin.read() or executor.collect(None)
"""


@pytest.fixture
def parent(tmp_path: Path, signpost: Signpost) -> Iterator[Any]:
    """Start a driver of its own that hands out the act; it leaves when its standard input gets a line and an end."""
    script = tmp_path / "driver.py"
    script.write_text(PARENT)
    started: list[subprocess.Popen[str]] = []

    def start(act: str) -> subprocess.Popen[str]:
        command = [sys.executable, script, Path(__file__).parent, act, signpost.path, tmp_path / "log.txt"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@linux_only
@pytest.mark.parametrize("act", ["train", "hang", "hang_unwatched_by_the_kernel"])
def test_no_worker_outlives_a_driver_that_was_killed(parent: Any, signpost: Signpost, act: str) -> None:
    driver = parent(act)
    signpost.pid()

    os.kill(driver.pid, signal.SIGKILL)

    signpost.wait_until_nobody_holds_it()


@linux_only
def test_even_a_halted_worker_does_not_outlive_a_driver_that_was_killed(parent: Any, signpost: Signpost) -> None:
    driver = parent("train")
    os.kill(signpost.pid(), signal.SIGSTOP)

    os.kill(driver.pid, signal.SIGKILL)

    signpost.wait_until_nobody_holds_it()


def test_a_driver_that_forgot_to_close_can_leave(parent: Any, signpost: Signpost) -> None:
    driver = parent("hang")
    signpost.pid()

    driver.communicate("leave", timeout=PATIENCE_S)

    assert driver.returncode == 0
    signpost.wait_until_nobody_holds_it()
