"""Both executors keep the contract; the local one also survives whatever happens to its workers."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from contracts.executor_contract import GRACE_S, ExecutorContract
from one_worker import Bench
from signpost import PATIENCE_S, Signpost

from nasflow_cli.core.registry import EXECUTORS
from nasflow_cli.execute.inline import make_inline
from nasflow_cli.execute.local import make_local
from nasflow_cli.execute.protocol import Executor, Slot, Task


class TestInlineExecutor(ExecutorContract):
    def make(self, target: str, setup: Mapping[str, Any]) -> Executor:
        return make_inline(target, setup, (), None, time.time)


class TestLocalExecutor(ExecutorContract):
    def make(self, target: str, setup: Mapping[str, Any]) -> Executor:
        return make_local(target, setup, (Slot(name="cpu:0"), Slot(name="cpu:1")), None, time.time)


def test_both_are_found_by_their_names() -> None:
    assert EXECUTORS["inline"].make is make_inline
    assert EXECUTORS["local"].make is make_local


def test_an_interrupt_from_the_keyboard_breaks_an_inline_task_off(tmp_path: Path) -> None:
    def press(payload: dict[str, Any], should_stop: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    with make_inline("handlers:build", {}, (), None, time.time) as executor:
        executor._make = lambda: press  # type: ignore[attr-defined]
        executor.submit(Task(number=4, payload={}, log=tmp_path / "log.txt"))
        with pytest.raises(KeyboardInterrupt):
            executor.collect(None)

        (outcome,) = executor.stop(0.0)

    assert (outcome.number, outcome.interrupted) == (4, True)


def test_a_worker_serves_one_task_after_the_other(bench: Bench) -> None:
    first = bench.reply(do="tell")

    second = bench.reply(do="tell")

    assert second["pid"] == first["pid"] != os.getpid()


def test_no_worker_is_started_before_the_first_task(bench: Bench) -> None:
    assert [seat.worker for seat in bench.executor._seats] == [None]


def test_the_environment_of_the_slot_is_there_when_the_target_is_imported(bench: Bench) -> None:
    assert bench.reply(do="tell")["threads"] == "3"


def test_two_slots_work_at_the_same_time(tmp_path: Path, signpost: Signpost) -> None:
    log = tmp_path / "log.txt"
    with make_local("handlers:build", {}, [Slot(name="a"), Slot(name="b")], None, time.time) as executor:
        executor.submit(Task(number=1, payload={"do": "hang", "signpost": str(signpost.path)}, log=log))
        signpost.pid()
        executor.submit(Task(number=2, payload={"do": "echo", "value": 1}, log=log))

        outcomes = executor.collect(PATIENCE_S)

        assert [outcome.number for outcome in outcomes] == [2]
        assert executor.running == {1}


def test_a_running_number_is_refused(tmp_path: Path) -> None:
    task = Task(number=1, payload={"do": "hang"}, log=tmp_path / "log.txt")
    with make_local("handlers:build", {}, [Slot(name="a"), Slot(name="b")], None, time.time) as executor:
        executor.submit(task)

        with pytest.raises(ValueError, match="already running"):
            executor.submit(task)


def test_collect_returns_empty_handed_after_its_timeout(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="hang", signpost=str(signpost.path))
    signpost.pid()

    assert bench.executor.collect(0.0) == []
    assert bench.executor.running == {0}


def test_a_killed_worker_is_a_failure_that_names_the_signal(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="hang", signpost=str(signpost.path))
    os.kill(signpost.pid(), signal.SIGKILL)

    failure = bench.collect().failure

    assert failure is not None
    assert failure.kind == "worker"
    assert failure.message.startswith("worker died: killed by signal 9 (SIGKILL)")


def test_a_worker_that_exits_is_a_failure_that_names_the_code(bench: Bench) -> None:
    failure = bench.failure(do="exit_now")

    assert (failure.kind, failure.message) == ("worker", "worker died: it ended itself with exit code 3")


def test_a_dead_worker_is_noticed_though_its_child_lives_on(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="die_with_a_child_left", signpost=str(signpost.path))

    child = signpost.pid()
    try:
        failure = bench.collect().failure
    finally:
        os.kill(child, signal.SIGKILL)

    assert failure is not None
    assert "SIGKILL" in failure.message


def test_a_dead_worker_is_replaced_with_the_next_task(bench: Bench) -> None:
    bench.failure(do="exit_now")

    assert bench.reply(do="tell")["calls"] == 1


def test_a_worker_that_died_idle_is_replaced_with_the_next_task(bench: Bench) -> None:
    pid = bench.reply(do="tell")["pid"]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert bench.reply(do="tell")["pid"] != pid


def test_a_worker_whose_device_is_broken_is_replaced(bench: Bench) -> None:
    pid = bench.reply(do="tell")["pid"]

    assert bench.failure(do="break_device").kind == "exception"

    assert bench.reply(do="tell")["pid"] != pid


def test_a_worker_that_cannot_be_started_is_a_failure(bench: Bench) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        bench.submit(do="tell")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    failure = bench.collect().failure

    assert failure is not None
    assert (failure.kind, "Too many open files" in failure.message) == ("worker", True)


def test_a_task_over_its_limit_is_killed(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="hang", signpost=str(signpost.path))
    signpost.pid()
    bench.clock.now += 10

    failure = bench.collect().failure

    assert failure is not None
    assert (failure.kind, "10 s" in failure.message) == ("timeout", True)
    signpost.wait_until_nobody_holds_it()


def test_a_worker_that_was_halted_is_ended_by_the_limit(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="train", signpost=str(signpost.path))
    os.kill(signpost.pid(), signal.SIGSTOP)
    bench.clock.now += 11

    failure = bench.collect().failure

    assert failure is not None
    assert failure.kind == "timeout"
    signpost.wait_until_nobody_holds_it()


def test_a_task_within_its_limit_goes_on(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="hang", signpost=str(signpost.path))
    signpost.pid()
    bench.clock.now += 9.9

    assert bench.executor.collect(0.0) == []


def test_megabytes_of_output_do_not_block(bench: Bench) -> None:
    bench.reply(do="chatter", lines=4096)

    assert bench.log.stat().st_size == 4 * 2**20


def test_all_that_a_task_prints_is_in_its_own_log(bench: Bench, tmp_path: Path) -> None:
    bench.reply(do="speak", word="one")
    bench.log = tmp_path / "two.txt"

    bench.reply(do="speak", word="two")

    assert sorted(bench.log.read_text().splitlines()) == ["child two", "descriptor two", "error two", "python two"]


def test_a_log_is_continued(bench: Bench) -> None:
    bench.log.write_text("before\n")

    bench.reply(do="speak", word="one")

    assert bench.log.read_text().startswith("before\n")
    assert "python one" in bench.log.read_text()


def test_the_last_words_of_a_worker_that_crashed_are_in_the_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)

    failure = bench.failure(do="speak_and_die")

    assert failure.message == "worker died: killed by signal 11 (SIGSEGV)"
    assert "last words" in bench.log.read_text()


def test_ctrl_c_for_the_whole_group_leaves_the_worker_alone(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="train_to_the_end", signpost=str(signpost.path))
    os.kill(signpost.pid(), signal.SIGINT)

    (outcome,) = bench.executor.stop(GRACE_S)

    assert outcome.reply == {"done": True}


def test_signals_for_the_whole_group_leave_a_worker_alone_that_is_just_starting(bench: Bench) -> None:
    bench.submit(do="echo", value=1)
    ((_, worker, _),) = bench.executor._busy()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.kill(worker._process.pid or 0, number)

    outcome = bench.collect()

    assert outcome.reply is not None


def test_a_worker_that_sigterm_ended_while_stopping_is_interrupted(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="hang_within_reach_of_sigterm", signpost=str(signpost.path))
    os.kill(signpost.pid(), signal.SIGTERM)

    (outcome,) = bench.executor.stop(GRACE_S)

    assert outcome.interrupted


def test_a_task_that_ignores_the_request_is_killed_after_the_grace(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="hang", signpost=str(signpost.path))
    signpost.pid()

    (outcome,) = bench.executor.stop(0.05)

    assert outcome.interrupted
    signpost.wait_until_nobody_holds_it()


def test_closing_ends_a_busy_worker(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="hang", signpost=str(signpost.path))
    signpost.pid()

    bench.executor.close()

    signpost.wait_until_nobody_holds_it()


def test_a_signal_that_breaks_collect_off_loses_no_task(bench: Bench, signpost: Signpost) -> None:
    def alarm(number: int, frame: object) -> None:
        raise TimeoutError("from the signal handler")

    before = signal.signal(signal.SIGALRM, alarm)
    bench.submit(do="train", signpost=str(signpost.path))
    signpost.pid()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(TimeoutError, match="from the signal handler"):
            bench.executor.collect(None)
    finally:
        signal.signal(signal.SIGALRM, before)

    (outcome,) = bench.executor.stop(GRACE_S)

    assert (outcome.number, outcome.interrupted) == (0, True)


def test_a_message_that_was_cut_by_a_signal_costs_the_worker_and_interrupts_its_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: object) -> None:
        raise KeyboardInterrupt

    bench.submit(do="echo", value=1)
    with monkeypatch.context() as patch:
        patch.setattr("nasflow_cli.execute.process.WorkerProcess.receive", cut)
        with pytest.raises(KeyboardInterrupt):
            bench.executor.collect(None)
    assert bench.executor.running == {0}

    assert bench.collect().interrupted

    assert bench.reply(do="echo", value=2)["got"] == 2
