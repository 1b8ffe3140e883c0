"""Nothing of a Ray that was started here outlives its driver, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from signpost import PATIENCE_S, Signpost

from nasflow_cli.execute.session import members

pytest.importorskip("ray", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray is started here on Linux only")

DRIVER = """
import sys, time
from pathlib import Path
from nasflow_cli.execute.cluster import make_ray
from nasflow_cli.execute.protocol import Slot, Task

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    executor = make_ray("handlers:build", {}, [Slot(name="cpu:0")], None, time.time)
    print(executor._link.pid, executor._link.folder, flush=True)
    executor.submit(Task(number=0, payload={"do": "hang", "signpost": sys.argv[2]}, log=Path(sys.argv[3])))
    sys.stdin.read() or executor.collect(None)
"""


def test_of_a_driver_that_was_killed_no_process_and_no_file_of_ray_is_left(tmp_path: Path, signpost: Signpost) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, script, Path(__file__).parent, signpost.path, tmp_path / "log.txt"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        session, folder = driver.stdout.readline().split()
        worker = signpost.pid()
        actor = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        alive = members(int(session))
        assert {worker, actor} < set(alive)
        os.kill(actor, signal.SIGSTOP)  # what is halted cannot leave by itself

        driver.kill()

        signpost.wait_until_nobody_holds_it()
        wait_for_the_end_of([int(session), *alive])
        assert driver.stdout.read() == ""
    assert not Path(folder).exists()


def wait_for_the_end_of(pids: list[int]) -> None:
    end = time.monotonic() + PATIENCE_S
    while [pid for pid in pids if state_of(pid) not in ("Z", "X", "")]:
        assert time.monotonic() < end, "a process of Ray lives on"


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
