"""What a worker may take: memory, room for its log, time while it is halted. Nothing here waits for a real minute."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from halting import halt, let_go_on
from one_worker import Bench
from signpost import Signpost

from nasflow_cli.execute.clock import steady
from nasflow_cli.execute.halted import LOOK_EVERY_S, NUM_LOOKS
from nasflow_cli.execute.log import KEPT_BYTES, MAX_BYTES, open_log, shorten
from nasflow_cli.execute.worker import named_limit


@pytest.fixture
def unlimited(tmp_path: Path) -> Iterator[Bench]:
    """A worker without a time limit."""
    bench = Bench(tmp_path, limit_s=None)
    with bench.executor:
        yield bench


def look(bench: Bench, times: int) -> list[str | None]:
    """Have the executor look so often, and return what it says of its task then."""
    said: list[str | None] = []
    for _ in range(times):
        bench.clock.now += LOOK_EVERY_S
        said += [outcome.failure and outcome.failure.message for outcome in bench.executor.collect(0.0)]
    return said


def test_a_task_that_needs_more_memory_than_its_worker_may_hold_fails_and_the_worker_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, memory_bytes=2**28)
    with bench.executor:
        pid = bench.reply(do="tell")["pid"]

        failure = bench.failure(do="allocate", bytes=2**29)

        assert failure.kind == "memory"
        assert "a worker may take 0.25 GiB for its data and its trial (executor.memory_gib); raise" in failure.message
        assert failure.message.endswith("(MemoryError)")
        assert bench.reply(do="allocate", bytes=2**20) == {"got": 2**20, "pid": pid}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("memory", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"),
        ("memory", "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        ("exception", "ValueError: no"),
    ],
)
def test_what_the_limit_did_not_refuse_is_not_put_down_to_it(kind: str, message: str) -> None:
    answer = {"failure": {"kind": kind, "message": message}, "seconds": 1.0}

    assert named_limit(answer, 2**28) == answer


def test_without_a_limit_no_limit_is_named() -> None:
    answer = {"failure": {"kind": "memory", "message": "MemoryError"}, "seconds": 1.0}

    assert named_limit(answer, None) == answer


def test_without_a_limit_the_same_task_has_its_memory(bench: Bench) -> None:
    assert bench.reply(do="allocate", bytes=2**29)["got"] == 2**29


def test_a_log_that_grows_without_end_is_cut_while_its_task_still_prints(bench: Bench) -> None:
    printed = bench.reply(do="chatter_until_shortened")["printed"]

    log = bench.log.read_bytes()
    assert bench.log.stat().st_size <= MAX_BYTES < printed
    assert log.startswith(b"first words\n")
    assert log.endswith(b"last words\n")
    assert b"bytes of output were left out here]" in log


def test_a_log_that_is_too_long_keeps_its_beginning_and_its_end_and_says_what_is_missing(tmp_path: Path) -> None:
    words = b"begin" + b"." * MAX_BYTES + b"end"
    (tmp_path / "log.txt").write_bytes(words)
    ours, theirs = os.open(tmp_path / "log.txt", os.O_RDWR), open_log(tmp_path / "log.txt")

    shorten(ours)
    os.write(theirs, b"more")

    os.close(ours)
    os.close(theirs)
    left_out = len(words) - 2 * KEPT_BYTES
    middle = f"\n[nasflow: {left_out} bytes of output were left out here]\n".encode()
    expected = words[:KEPT_BYTES] + middle + words[-KEPT_BYTES:] + b"more"
    assert (tmp_path / "log.txt").read_bytes() == expected


def test_a_worker_that_stays_halted_is_ended_though_its_trial_has_no_time_limit(
    unlimited: Bench, signpost: Signpost
) -> None:
    unlimited.submit(do="train", signpost=str(signpost.path))
    halt(signpost.pid())

    assert look(unlimited, NUM_LOOKS - 1) == []
    (message,) = look(unlimited, 1)

    assert message == "its worker was halted by a signal and not let go on for 60 s; it was killed"
    signpost.wait_until_nobody_holds_it()


def test_a_worker_that_was_halted_while_idle_is_replaced_with_the_next_task(unlimited: Bench) -> None:
    pid = unlimited.reply(do="tell")["pid"]
    halt(pid)

    unlimited.submit(do="tell")

    ((_, worker, _),) = unlimited.executor._busy()
    assert worker._process.pid != pid


def test_a_worker_that_was_halted_and_let_go_on_is_not_ended(unlimited: Bench, signpost: Signpost) -> None:
    unlimited.submit(do="train", signpost=str(signpost.path))
    pid = signpost.pid()
    halt(pid)
    look(unlimited, NUM_LOOKS - 1)
    let_go_on(pid)
    look(unlimited, 1)
    halt(pid)

    assert look(unlimited, NUM_LOOKS - 1) == []

    let_go_on(pid)
    assert unlimited.executor.running == {0}


def test_a_worker_that_was_halted_together_with_its_driver_is_not_ended(unlimited: Bench, signpost: Signpost) -> None:
    unlimited.submit(do="train", signpost=str(signpost.path))
    halt(signpost.pid())

    unlimited.clock.now += 3600

    assert look(unlimited, 1) == []


def test_time_in_which_the_driver_was_halted_counts_for_no_limit(bench: Bench, signpost: Signpost) -> None:
    bench.submit(do="hang", signpost=str(signpost.path))
    signpost.pid()
    bench.clock.now += 3600

    assert bench.executor.collect(0.0) == []

    bench.clock.now += 10.0
    failure = bench.collect().failure
    assert failure is not None
    assert failure.kind == "timeout"


def test_a_steady_clock_begins_at_the_wall_clocks_time_and_follows_none_of_its_jumps() -> None:
    wall, monotonic = [1_000_000.0], [7.0]
    clock = steady(lambda: wall[0], lambda: monotonic[0])
    assert clock() == 1_000_000.0

    wall[0] -= 86_400.0
    monotonic[0] += 2.5

    assert clock() == 1_000_002.5
