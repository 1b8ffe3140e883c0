"""What goes wrong around a search: plug-ins, disks, clocks, places. Nothing paid for is lost, nothing false kept."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from child import config_with_trouble
from tiny import CrashError, Watcher, events, run, timeless, write_config

from nasflow_cli import assemble
from nasflow_cli.cli import export as cli_export
from nasflow_cli.cli import inspect
from nasflow_cli.cli import search as cli_search
from nasflow_cli.cli import train as cli_train
from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.core.trial import Trial
from nasflow_cli.search import Stop
from nasflow_cli.store.journal import read_events
from nasflow_cli.store.run_directory import RunDirectory

Trouble = Any
Told = dict[str, Any]


def told(directory: Path) -> list[Told]:
    return [event for event in events(directory) if event["event"] == "told"]


def recorded(directory: Path) -> list[Told]:
    """What was told, without the clocks' readings."""
    return [event for event in timeless(directory) if event["event"] == "told"]


def test_an_exception_in_a_plug_in_fails_its_trial_with_its_words_and_the_search_goes_on(
    trouble: Trouble, tmp_path: Path
) -> None:
    def break_at_first(number: int, x: object) -> None:
        if number == 1:
            raise ZeroDivisionError("the plug-in is broken")

    trouble.strike = break_at_first
    config = config_with_trouble(tmp_path / "tiny.yaml", search={"trials": 4})

    assert run(config, tmp_path / "run").finished

    first, *others = told(tmp_path / "run")
    assert (first["score"], first["error_kind"]) == (None, "exception")
    assert first["error"] == "ZeroDivisionError: the plug-in is broken"
    assert all(other["score"] is not None for other in others)
    assert "in break_at_first" in RunDirectory(tmp_path / "run").trial(0).log.read_text()


def test_what_was_mended_on_the_way_stands_in_the_journal_and_is_shown(
    trouble: Trouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_out_at_first(number: int, x: object) -> None:
        if number == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    trouble.strike = run_out_at_first
    run(config_with_trouble(tmp_path / "tiny.yaml", search={"trials": 4}), tmp_path / "run")

    first, *others = told(tmp_path / "run")
    assert "half batches" in first["notes"][0]
    assert all(other["notes"] == [] for other in others)
    capsys.readouterr()
    inspect.show(str(tmp_path / "run"), 0)
    assert f"note      {first['notes'][0]}" in capsys.readouterr().out


class Spoiler(Watcher):
    """Damages the checkpoint that a promoted trial would go on from, just before it does."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.run = RunDirectory(directory)

    def asked(self, trial: Trial) -> None:
        if trial.parent is not None:
            os.truncate(self.run.trial(trial.parent).checkpoint, 1000)


def test_a_promotion_whose_checkpoint_is_damaged_scores_the_same_and_the_journal_says_what_was_done(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    config, directory = finished
    experiment = assemble.check(assemble.load(config, []))
    place = assemble.new_run(experiment, config, tmp_path / "run")

    with assemble.open_search(experiment, place, Spoiler(tmp_path / "run"), Stop()) as live:
        assert live.work().finished

    promoted = {event["trial"]: event["parent"] for event in events(directory) if event.get("parent") is not None}
    assert promoted
    for expected, found in zip(recorded(directory), recorded(tmp_path / "run"), strict=True):
        assert found["score"] == expected["score"]
        parent = promoted.get(found["trial"])
        if parent is None:
            assert found == expected
        else:
            (note,) = found["notes"]
            assert f"cannot go on from trial {parent}" in note
            assert note.endswith("starting from fresh weights")
            assert found["epochs"] == 3  # all of them, and not only the two that are new


def test_a_search_on_a_disk_that_fills_up_stops_and_goes_on_when_there_is_room(
    finished: tuple[Path, Path], small_disk: Callable[[int], Any]
) -> None:
    config, directory = finished
    disk = small_disk(128)

    with pytest.raises(RunDirectoryError, match=r"the disk is full|No space left") as caught:
        run(config, disk.path / "run")

    assert (caught.value.exit_code, str(caught.value).count("nasflow resume")) == (5, 1)
    assert all(result["score"] is not None for result in told(disk.path / "run"))
    disk.change("size=64m")
    assert run(config, disk.path / "run").finished
    assert timeless(disk.path / "run") == timeless(directory)


def test_a_search_that_reaches_the_limit_for_files_stops_and_goes_on_when_that_is_raised(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    config, directory = finished
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))
    try:
        with pytest.raises(RunDirectoryError, match=rf"^trial 0: .*not yet run.*`nasflow resume {tmp_path}/run`"):
            run(config, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert told(tmp_path / "run") == []
    assert run(config, tmp_path / "run").finished
    assert timeless(tmp_path / "run") == timeless(directory)


def stopped_half_way(config: Path, directory: Path) -> None:
    with pytest.raises(CrashError):
        run(config, directory, crash_after=2)


def check_that_it_can_only_be_read(config: Path, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = (directory / "journal.jsonl").read_bytes()
    said = r"cannot write .*run\.lock: (Read-only file system|Permission denied); make it writable, or copy the run"
    for command in (
        lambda: cli_search.search(config, directory),
        lambda: cli_search.resume(str(directory)),
        lambda: cli_train.train(str(directory)),
    ):
        with pytest.raises(RunDirectoryError, match=said):
            command()
    with pytest.raises(RunDirectoryError, match="name another place with --out"):
        cli_export.export_best(str(directory))
    for command in (inspect.status, inspect.leaderboard, inspect.show):
        command(str(directory))
    assert "2 of 4 ended" in capsys.readouterr().out
    assert (directory / "journal.jsonl").read_bytes() == journal


def test_a_run_on_a_read_only_disk_can_be_read_and_goes_on_when_it_may_be_written(
    finished: tuple[Path, Path], small_disk: Callable[[int], Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config, directory = finished
    disk = small_disk(65_536)
    stopped_half_way(config, disk.path / "run")
    disk.change("ro")

    check_that_it_can_only_be_read(config, disk.path / "run", capsys)
    shutil.copytree(disk.path / "run", tmp_path / "copy")
    cli_search.resume(str(tmp_path / "copy"))
    cli_export.export_best(str(disk.path / "run"), out=tmp_path / "export")

    assert timeless(tmp_path / "copy") == timeless(directory)
    assert (tmp_path / "export" / "network.py").exists()
    disk.change("rw")
    assert run(config, disk.path / "run").finished
    assert timeless(disk.path / "run") == timeless(directory)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_directory_without_permission_to_write_can_be_read(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_half_way(finished[0], tmp_path / "run")
    (tmp_path / "run" / "run.lock").chmod(0o400)

    check_that_it_can_only_be_read(finished[0], tmp_path / "run", capsys)


def test_a_place_that_becomes_read_only_meanwhile_stops_the_search_and_fails_no_trial(
    finished: tuple[Path, Path], small_disk: Callable[[int], Any]
) -> None:
    disk = small_disk(65_536)

    class Closer(Watcher):
        def told(self, *anything: Any) -> None:
            disk.close(disk.path / "run" / "trials")

    experiment = assemble.check(assemble.load(finished[0], []))
    place = assemble.new_run(experiment, finished[0], disk.path / "run")
    with (
        pytest.raises(RunDirectoryError, match="Read-only file system"),
        assemble.open_search(experiment, place, Closer(), Stop()) as live,
    ):
        live.work()

    assert [result["score"] is not None for result in told(disk.path / "run")] == [True]


def test_a_run_directory_that_was_moved_to_another_place_and_machine_goes_on_there(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    config, directory = finished
    stopped_half_way(config, tmp_path / "here")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").rename(tmp_path / "elsewhere" / "run")
    # Its driver was killed there, and so its name is still in the lock.
    (tmp_path / "elsewhere" / "run" / "run.lock").write_text('{"host": "there", "pid": 1, "started": 0.0}\n')
    resolved = tmp_path / "elsewhere" / "run" / "config.resolved.yaml"

    assert run(resolved, tmp_path / "elsewhere" / "run").finished

    assert timeless(tmp_path / "elsewhere" / "run") == timeless(directory)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_nothing_but_the_times(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    config, directory = finished
    real, begin, ahead_s = time.time, time.time(), [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s[0])

    class ClockSetter(Watcher):
        def asked(self, trial: Trial) -> None:
            ahead_s[0] = jump_s

    experiment = assemble.check(assemble.load(config, []))
    place = assemble.new_run(experiment, config, tmp_path / "run")
    with assemble.open_search(experiment, place, ClockSetter(), Stop()) as live:
        assert live.work().finished

    assert timeless(tmp_path / "run")[1:] == timeless(directory)[1:]
    for result in told(tmp_path / "run"):
        assert begin <= result["started"] <= result["finished"] <= real() + 1.0


def test_a_journal_line_torn_by_a_full_disk_is_no_event(finished: tuple[Path, Path], tmp_path: Path) -> None:
    config, directory = finished
    stopped_half_way(config, tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"event":"told","trial":2,"sco')

    assert len(read_events(journal)) == whole.count(b"\n")
    assert run(config, tmp_path / "run").finished

    assert timeless(tmp_path / "run") == timeless(directory)


def test_the_environment_of_a_run_is_not_needed_to_go_on(finished: tuple[Path, Path], tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", search={"trials": 4})
    stopped_half_way(config, tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text(json.dumps([]))

    assert run(config, tmp_path / "run").finished


def test_a_memory_limit_of_the_executor_is_every_workers(tmp_path: Path) -> None:
    limited, free = (
        assemble.load(write_config(tmp_path / "tiny.yaml", executor={"workers": 2, "memory_gib": gib}), [])
        for gib in (1.5, None)
    )

    assert [slot.memory_bytes for slot in assemble.slots(limited)] == [1_610_612_736] * 2
    assert [slot.memory_bytes for slot in assemble.slots(free)] == [None] * 2
