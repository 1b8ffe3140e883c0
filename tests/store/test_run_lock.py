from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.store.files import write_whole
from nasflow_cli.store.lock import LockHolder, RunLock, holder

PROGRAM = """
import pathlib, sys
from nasflow_cli.store.lock import RunLock
with RunLock(pathlib.Path(sys.argv[1]), clock=lambda: 0.0):
    print("held", flush=True)
    sys.stdin.read()
"""

PARENT = """
import pathlib, subprocess, sys
from nasflow_cli.store.lock import RunLock
child = "import sys; print('child runs', flush=True); sys.stdin.read()"
with RunLock(pathlib.Path(sys.argv[1])):
    subprocess.Popen([sys.executable, "-c", child], close_fds=False).wait()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


@pytest.fixture
def other(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input ends."""
    command = [sys.executable, "-c", PROGRAM, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_told_who_holds_the_lock(lock: Path, other: subprocess.Popen[str]) -> None:
    who = f"{lock.parent} is locked by process {other.pid} on {socket.gethostname()} since 1970-01-01 00:00:00 UTC"
    with pytest.raises(RunDirectoryError, match=re.escape(who)) as caught, RunLock(lock):
        pass
    assert caught.value.exit_code == 5


def test_a_refused_writer_does_not_disturb_the_holder(lock: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(RunDirectoryError), RunLock(lock):
        pass
    assert holder(lock) == LockHolder(host=socket.gethostname(), pid=other.pid, started=0.0)


def test_a_lock_is_free_after_kill_9_of_its_holder(lock: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    with RunLock(lock):
        assert holder(lock).pid == os.getpid()


def test_readers_see_no_holder_after_kill_9_though_the_file_names_one(lock: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    assert (holder(lock), json.loads(lock.read_text())["pid"]) == (None, other.pid)


def test_the_file_says_who_holds_the_lock_even_over_a_longer_text(lock: Path) -> None:
    lock.write_text("x" * 5000)
    with RunLock(lock, clock=lambda: 12.5):
        assert json.loads(lock.read_text()) == {"host": socket.gethostname(), "pid": os.getpid(), "started": 12.5}


def test_a_released_lock_keeps_its_file_and_names_nobody(lock: Path) -> None:
    with RunLock(lock):
        pass
    assert (lock.read_bytes(), holder(lock)) == (b"", None)


def test_a_lock_can_be_taken_again(lock: Path) -> None:
    run_lock = RunLock(lock)
    for _ in range(2):
        with run_lock:
            assert holder(lock) is not None


def test_a_lock_is_released_when_its_block_fails(lock: Path) -> None:
    with pytest.raises(KeyError), RunLock(lock):
        raise KeyError
    with RunLock(lock):
        pass


def test_a_lock_is_one_writer_also_within_a_process(lock: Path) -> None:
    with RunLock(lock), pytest.raises(RunDirectoryError, match=f"process {os.getpid()} "), RunLock(lock):
        pass


def test_a_program_started_by_a_killed_holder_does_not_keep_the_lock(lock: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "child runs\n"
        parent.kill()
        parent.wait()
        with RunLock(lock):
            pass


def test_releasing_frees_the_lock_though_a_forked_child_still_has_the_file(lock: Path) -> None:
    release, wait = os.pipe()[::-1]
    with RunLock(lock):
        child = os.fork()
        if child == 0:
            os.close(release)
            os.read(wait, 1)
            os._exit(0)
    try:
        with RunLock(lock):
            pass
    finally:
        os.close(release)
        os.close(wait)
        os.waitpid(child, 0)


def test_a_holder_on_another_host_counts_as_alive(lock: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock.write_text(f'{{"host": "elsewhere.invalid", "pid": {dead.pid}, "started": 3.0}}')
    assert holder(lock) == LockHolder(host="elsewhere.invalid", pid=dead.pid, started=3.0)


def test_asking_for_the_holder_changes_nothing(lock: Path) -> None:
    assert (holder(lock), lock.exists()) == (None, False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"host": "elsew',
        b"\x00\xff",
        b"[1]",
        b'{"host": "h", "pid": -1, "started": 0}',
        b'{"host": "h", "pid": "1", "started": 0}',
        b'{"host": "h", "pid": 1, "started": 1e300}',
        b'{"host": "h", "pid": 1, "started": NaN}',
    ],
)
def test_a_lock_file_that_names_nobody_has_no_holder(lock: Path, content: bytes) -> None:
    lock.write_bytes(content)
    assert holder(lock) is None


def test_a_lock_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"cannot write .*run\.lock"), RunLock(tmp_path / "absent" / "run.lock"):
        pass


def test_what_cannot_be_written_under_the_lock_is_a_fault_of_the_run_directory_and_frees_it(lock: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"absent/file: No such file or directory; make it writable, or copy"):  # noqa: SIM117
        with RunLock(lock):
            write_whole(lock.parent / "absent" / "file", "x")

    assert holder(lock) is None
