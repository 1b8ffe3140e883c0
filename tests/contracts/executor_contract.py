"""What every executor owes, whichever way it runs its tasks. Inherit from `ExecutorContract` and make one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nasflow_cli.execute.protocol import Executor, Outcome, Task

GRACE_S = 60.0
"""More than any handler here needs; no test waits for it."""


class ExecutorContract:
    """The suite. A subclass gives `make`; targets are functions of the module `handlers`."""

    def make(self, target: str, setup: Mapping[str, Any]) -> Executor:
        raise NotImplementedError

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with self.make("handlers:build", {"path": "data"}) as executor:
            yield executor

    @pytest.fixture
    def log(self, tmp_path: Path) -> Path:
        return tmp_path / "trials" / "0" / "log.txt"

    def run(self, executor: Executor, log: Path, **payload: Any) -> Outcome:
        """Run one task to its end."""
        executor.submit(Task(number=7, payload=payload, log=log))
        (outcome,) = executor.collect(None)
        return outcome

    def test_the_reply_of_a_task_comes_back_under_its_number(self, executor: Executor, log: Path) -> None:
        outcome = self.run(executor, log, do="echo", value=1)

        assert outcome.number == 7
        assert outcome.reply == {"got": 1, "asked_to_stop": False}

    def test_an_outcome_says_when_and_for_how_long(self, executor: Executor, log: Path) -> None:
        outcome = self.run(executor, log, do="echo", value=1)

        assert outcome.started <= outcome.finished
        assert 0 <= outcome.seconds <= 60

    def test_values_cross_as_json(self, executor: Executor, log: Path) -> None:
        value = {"tuple": (1, 2.5), "key": {1: None}, "text": "Grüße \ud800"}

        outcome = self.run(executor, log, do="echo", value=value)

        assert outcome.reply is not None
        assert outcome.reply["got"] == {"tuple": [1, 2.5], "key": {"1": None}, "text": "Grüße \ud800"}

    def test_the_handler_is_made_once_with_the_setup(self, executor: Executor, log: Path) -> None:
        self.run(executor, log, do="tell")

        reply = self.run(executor, log, do="tell").reply

        assert reply is not None
        assert (reply["calls"], reply["setup"]) == (2, {"path": "data"})

    def test_an_exception_is_a_failure_in_one_line(self, executor: Executor, log: Path) -> None:
        failure = self.run(executor, log, do="wrong_value").failure

        assert failure is not None
        assert (failure.kind, failure.message) == ("exception", r"KeyError: 'first line\nsecond line'")

    def test_the_traceback_of_a_failure_is_in_the_log(self, executor: Executor, log: Path) -> None:
        self.run(executor, log, do="wrong_value")

        assert "Traceback" in log.read_text()
        assert "in wrong_value" in log.read_text()

    def test_a_handler_that_exits_is_a_failure(self, executor: Executor, log: Path) -> None:
        failure = self.run(executor, log, do="system_exit").failure

        assert failure is not None
        assert (failure.kind, failure.message) == ("exception", "SystemExit: no such data")

    @pytest.mark.parametrize("how", ["builtin", "class", "cuda", "cpu", "onednn"])
    def test_a_lack_of_memory_is_told_from_other_exceptions(self, executor: Executor, log: Path, how: str) -> None:
        failure = self.run(executor, log, do="out_of_memory", how=how).failure

        assert failure is not None
        assert failure.kind == "memory"

    def test_an_exception_can_name_its_own_kind(self, executor: Executor, log: Path) -> None:
        failure = self.run(executor, log, do="diverge").failure

        assert failure is not None
        assert (failure.kind, failure.message) == ("nan", "DivergedError: the loss is not a number")

    @pytest.mark.parametrize("act", ["not_an_object", "not_json"])
    def test_a_reply_that_is_not_a_json_object_is_a_failure(self, executor: Executor, log: Path, act: str) -> None:
        failure = self.run(executor, log, do=act).failure

        assert failure is not None
        assert failure.message.startswith("TypeError: ")

    def test_a_target_that_cannot_be_made_fails_the_task_with_the_reason(self, log: Path) -> None:
        with self.make("handlers:fail_to_build", {"path": "nowhere"}) as executor:
            failure = self.run(executor, log, do="echo", value=1).failure

        assert failure is not None
        assert (failure.kind, failure.message) == ("exception", "FileNotFoundError: no data set at nowhere")

    def test_a_log_that_cannot_be_written_is_the_disks_failure_and_not_the_tasks(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()

        failure = self.run(executor, tmp_path / "file" / "log.txt", do="echo", value=1).failure

        assert failure is not None
        assert failure.kind == "disk"
        assert str(tmp_path / "file") in failure.message

    def test_a_link_in_the_place_of_a_log_is_not_followed(self, executor: Executor, log: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("mine")
        log.parent.mkdir(parents=True)
        log.symlink_to(tmp_path / "mine")

        self.run(executor, log, do="wrong_value")

        assert (tmp_path / "mine").read_text() == "mine"

    def test_a_full_disk_is_told_from_other_exceptions(self, executor: Executor, log: Path, tmp_path: Path) -> None:
        failure = self.run(executor, log, do="fill_the_disk", path=str(tmp_path / "large")).failure

        assert failure is not None
        assert (failure.kind, failure.message) == ("disk", "OSError: [Errno 27] File too large")

    def test_a_failure_leaves_the_slot_fit_for_the_next_task(self, executor: Executor, log: Path) -> None:
        self.run(executor, log, do="wrong_value")

        assert self.run(executor, log, do="echo", value=1).reply is not None

    def test_a_task_that_stops_as_if_it_had_been_told_to_has_failed(self, executor: Executor, log: Path) -> None:
        outcome = self.run(executor, log, do="interrupt")

        assert outcome.failure is not None
        assert outcome.failure.kind == "exception"
        assert outcome.failure.message == "it stopped as if it had been told to, and was not"

    def test_a_task_holds_its_slot_until_its_outcome_is_collected(self, executor: Executor, log: Path) -> None:
        assert executor.running == frozenset()

        executor.submit(Task(number=7, payload={"do": "echo", "value": 1}, log=log))

        assert executor.running == {7}
        executor.collect(None)
        assert executor.running == frozenset()

    def test_a_task_too_many_is_refused(self, executor: Executor, log: Path) -> None:
        numbers = range(executor.slots)
        for number in numbers:
            executor.submit(Task(number=number, payload={"do": "echo", "value": 1}, log=log))

        with pytest.raises(ValueError, match="no slot is free"):
            executor.submit(Task(number=99, payload={"do": "echo", "value": 1}, log=log))

        assert executor.running == set(numbers)

    def test_a_payload_that_is_not_json_is_refused_and_takes_no_slot(self, executor: Executor, log: Path) -> None:
        with pytest.raises(ValueError, match="payload of task 7 is not JSON"):
            executor.submit(Task(number=7, payload={"do": {1, 2}}, log=log))

        assert executor.running == frozenset()

    def test_collect_does_not_wait_when_nothing_runs(self, executor: Executor) -> None:
        assert executor.collect(None) == []

    def test_stop_gives_each_running_task_an_outcome(self, executor: Executor, log: Path) -> None:
        numbers = range(executor.slots)
        for number in numbers:
            executor.submit(Task(number=number, payload={"do": "train"}, log=log))

        outcomes = executor.stop(GRACE_S)

        assert sorted(outcome.number for outcome in outcomes) == list(numbers)
        assert all(outcome.interrupted for outcome in outcomes)
        assert executor.running == frozenset()

    def test_a_stopped_executor_takes_tasks_again(self, executor: Executor, log: Path) -> None:
        executor.submit(Task(number=1, payload={"do": "train"}, log=log))
        executor.stop(GRACE_S)

        assert self.run(executor, log, do="echo", value=1).reply == {"got": 1, "asked_to_stop": False}

    def test_closing_twice_is_fine(self, executor: Executor, log: Path) -> None:
        executor.submit(Task(number=1, payload={"do": "echo", "value": 1}, log=log))
        executor.close()

        executor.close()

        assert executor.running == frozenset()

    def test_a_closed_executor_refuses_tasks(self, executor: Executor, log: Path) -> None:
        executor.close()

        with pytest.raises(ValueError, match="closed"):
            executor.submit(Task(number=1, payload={"do": "echo", "value": 1}, log=log))

    def test_the_driver_keeps_its_own_output(self, executor: Executor, log: Path) -> None:
        before = os.fstat(1)

        self.run(executor, log, do="wrong_value")

        assert os.path.samestat(before, os.fstat(1))
