"""A bridge to Ray that is halted is noticed, and no other is. Needs no Ray, and waits for no real minute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bridge_without_ray
import pytest
from halting import halt, let_go_on
from one_worker import Clock
from signpost import PATIENCE_S, Signpost

from nasflow_cli.execute.cluster import LOST_BRIDGES, RayExecutor
from nasflow_cli.execute.halted import LOOK_EVERY_S, NUM_LOOKS, HaltWatch, guard
from nasflow_cli.execute.protocol import Outcome, Task
from nasflow_cli.execute.session import end_members, members

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Line:
    """An executor, the clock that it reads, and the process id of its bridge."""

    def __init__(self, log: Path) -> None:
        self.clock = Clock()
        self.executor = RayExecutor({"address": "127.0.0.1:9", "slots": 2}, self.clock)
        self.log = log

    @property
    def bridge(self) -> int:
        assert self.executor._link is not None
        return self.executor._link.pid

    def submit(self, number: int = 0, **payload: str) -> None:
        self.executor.submit(Task(number=number, payload=payload, log=self.log))

    def look(self, times: int) -> list[Outcome]:
        """Have the executor look so often."""
        outcomes = []
        for _ in range(times):
            self.clock.now += LOOK_EVERY_S
            outcomes += self.executor.collect(0.0)
        return outcomes


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr("nasflow_cli.execute.cluster.bridge.serve", bridge_without_ray.serve)
    line = Line(tmp_path / "log.txt")
    with line.executor:
        yield line
        os.kill(line.bridge, signal.SIGCONT)


def test_a_bridge_that_stays_halted_is_replaced_and_its_tasks_are_begun_again(
    line: Line, signpost: Signpost, tmp_path: Path
) -> None:
    line.submit(do="wait", begun=str(tmp_path / "begun"), signpost=str(signpost.path))
    halted = signpost.pid()
    halt(halted)

    assert line.look(NUM_LOOKS - 1) == []
    assert line.bridge == halted
    outcomes = line.look(1)

    assert line.bridge != halted
    with pytest.raises(ProcessLookupError):
        os.kill(halted, 0)
    (outcome,) = outcomes or line.executor.collect(PATIENCE_S)  # the new one may have answered already
    assert (outcome.number, outcome.reply) == (0, {"pid": line.bridge})


def test_a_bridge_that_was_halted_and_let_go_on_is_kept(line: Line, signpost: Signpost) -> None:
    line.submit(do="wait", signpost=str(signpost.path))
    halted = signpost.pid()
    halt(halted)
    line.look(NUM_LOOKS - 1)
    let_go_on(halted)
    line.look(1)
    halt(halted)

    line.look(NUM_LOOKS - 1)

    assert line.bridge == halted


def test_a_bridge_that_was_halted_together_with_its_driver_is_kept(line: Line, signpost: Signpost) -> None:
    line.submit(do="wait", signpost=str(signpost.path))
    halted = signpost.pid()
    halt(halted)
    line.clock.now += 3600

    line.look(1)

    assert line.bridge == halted


def test_a_bridge_that_only_has_nothing_to_say_is_kept_for_ever(line: Line, signpost: Signpost) -> None:
    line.submit(do="wait", signpost=str(signpost.path))
    quiet = signpost.pid()

    assert line.look(100 * NUM_LOOKS) == []

    assert line.bridge == quiet
    line.submit(1, do="echo")
    (outcome,) = line.executor.collect(PATIENCE_S)
    assert outcome.number == 1


def test_a_task_whose_bridge_ends_each_time_fails_at_last_and_the_next_is_done(line: Line, signpost: Signpost) -> None:
    line.submit(do="die", signpost=str(signpost.path))

    (outcome,) = line.executor.collect(PATIENCE_S)

    assert outcome.failure is not None
    assert outcome.failure.kind == "worker"
    assert outcome.failure.message.startswith(
        "all of Ray was lost 3 times before it ended; its driver, the last time: killed"
    )
    assert len(signpost.pids()) == LOST_BRIDGES
    line.submit(1, do="echo")
    assert [each.number for each in line.executor.collect(PATIENCE_S)] == [1]


def test_a_signal_in_the_moment_in_which_ray_gets_its_folder_leaves_no_folder_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def folder() -> Path:
        made = Path(tempfile.mkdtemp(dir=tmp_path))
        signal.raise_signal(signal.SIGINT)
        return made

    monkeypatch.setattr("nasflow_cli.execute.cluster.bridge.serve", bridge_without_ray.serve)
    monkeypatch.setattr("nasflow_cli.execute.cluster.private_folder", folder)
    executor = object.__new__(RayExecutor)
    with pytest.raises(KeyboardInterrupt):
        executor.__init__({"address": None, "slots": 2}, Clock())  # type: ignore[misc]  (to have it though it raises)

    executor.close()

    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def patience() -> Iterator[None]:
    """A test that waits for a process that is halted is broken off."""

    def alarm(number: int, frame: object) -> None:
        pytest.fail("it waits for a halted process")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def halted_and_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: None) -> Iterator[RayExecutor]:
    """An executor whose bridge is halted and takes no more messages, in real time."""
    monkeypatch.setattr("nasflow_cli.execute.cluster.bridge.serve", bridge_without_ray.serve)
    with RayExecutor({"address": "127.0.0.1:9", "slots": 1000}, time.monotonic) as executor:
        assert executor._link is not None
        halt(executor._link.pid)
        while executor._link.takes_more(0.0):
            number = len(executor.running)
            payload = {"do": "echo", "padding": "." * 10_000}
            executor.submit(Task(number=number, payload=payload, log=tmp_path / "log.txt"))
        yield executor


def test_a_bridge_that_was_halted_while_it_was_given_many_tasks_does_not_hold_up_the_next(
    halted_and_full: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasflow_cli.execute.cluster.LOOK_EVERY_S", 0.01)
    count = len(halted_and_full.running)
    assert count < 100

    for number in range(count, 200):
        payload = {"do": "echo", "padding": "." * 10_000}
        halted_and_full.submit(Task(number=number, payload=payload, log=tmp_path / "log.txt"))

    done = set()
    while halted_and_full.running:
        done |= {outcome.number for outcome in halted_and_full.collect(None) if outcome.reply}
    assert done == set(range(200))


LEAVING = """
import os, shutil, subprocess, sys
from nasflow_cli.execute import bridge

remove, late = shutil.rmtree, []
def remove_late(path, **options):
    remove(path, **options)
    if not late:
        late.append(subprocess.Popen(["sleep", "60"]))
        os.mkdir(path)
bridge.shutil.rmtree = remove_late
os.setsid()
print(os.getpid(), flush=True)
bridge._leave(sys.argv[1])
"""


def test_what_is_just_being_started_when_all_is_ended_does_not_live_on(tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", LEAVING, tmp_path / "ray"], **pipes) as bridge:
        session = int(bridge.stdout.readline())
        bridge.wait(PATIENCE_S)

    left = members(session)

    end_members(session)
    assert left == []
    assert not (tmp_path / "ray").exists()


def test_a_task_that_has_its_reply_is_not_begun_again(line: Line, signpost: Signpost, tmp_path: Path) -> None:
    line.submit(1, do="echo")
    line.submit(0, do="wait", begun=str(tmp_path / "begun"), signpost=str(signpost.path))
    os.kill(signpost.pid(), signal.SIGKILL)

    outcomes = line.executor.collect(PATIENCE_S)
    while line.executor.running:
        outcomes += line.executor.collect(PATIENCE_S)

    assert [outcome.number for outcome in outcomes] == [1, 0]


@pytest.fixture
def idle() -> Iterator[list[int]]:
    """The ids of two processes that do nothing."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.communicate()


def test_of_several_processes_each_is_given_up_for_its_own_looks(idle: list[int]) -> None:
    (early, late), watch = idle, HaltWatch()
    halt(early)
    assert watch.look(idle) == set()
    halt(late)

    given_up = [watch.look(idle) for _ in range(NUM_LOOKS)]

    assert given_up[-2:] == [{early}, {early, late}]
    assert not any(given_up[:-2])


def test_whoever_is_not_halted_is_guarded_and_not_ended() -> None:
    class EnoughError(Exception):
        pass

    looks = 0

    def pause() -> None:
        nonlocal looks
        looks += 1
        if looks == 10 * NUM_LOOKS:
            raise EnoughError

    with pytest.raises(EnoughError):
        guard(os.getpid(), pause)
