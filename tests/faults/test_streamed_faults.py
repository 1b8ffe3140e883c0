"""What goes wrong with data that is streamed, while a child or a final network is trained. Each fault is a real one."""

from __future__ import annotations

import os
import resource
import select as readiness
import shutil
import signal
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from child import BATCHES, Child, same
from test_child_faults import limit, own_memory
from tiny import run as run_search
from tiny import timeless, write_config

from nasflow_cli import assemble
from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.execute.boundary import failure_of
from nasflow_cli.execute.local import make_local
from nasflow_cli.execute.protocol import Slot, Task
from nasflow_cli.store.journal import history_of, read_events
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data import Source, Undecoded, load_splits, select
from nasflow_cli.train.data.load import feature_statistics
from nasflow_cli.train.data.store import open_stored
from nasflow_cli.train.data.values import Block, Positions
from nasflow_cli.train.final import FinalAssignment, FinalTrainer
from nasflow_cli.train.worker_data import worker_setup

Trouble = Any
STREAMED = {"data_gib": 0, "loaders": 0}
RICH = {"augment": {"crop": 1, "cutout": 2, "mixup": 0.3}}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the kernel kills orphans on Linux only")


@pytest.fixture
def make(tmp_path: Path, trouble: Trouble) -> Iterator[Callable[..., Child]]:
    """Make evaluators that train on the digits with all kinds of changes, each in a folder of its own."""
    made: list[Child] = []

    def make_one(**executor: Any) -> Child:
        (folder := tmp_path / str(len(made))).mkdir()
        made.append(Child(folder, data=RICH, executor=executor))
        return made[-1]

    yield make_one
    for child in made:
        child.evaluator.close()


def stored(child: Child) -> Path:
    (path,) = child.run.data.rglob("examples.bin")
    return path


def flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("loaders", [0, 2])
def test_a_child_on_streamed_data_is_the_child_on_resident_data_in_every_bit(
    make: Callable[..., Child], loaders: int
) -> None:
    resident, streamed = make(), make(data_gib=0, loaders=loaders)
    reports = [child.train(0, 2) for child in (resident, streamed)]
    more = [child.train(1, 3, 0) for child in (resident, streamed)]

    assert reports[0] == reports[1]
    assert more[0] == more[1]
    assert same(resident.weights(1), streamed.weights(1))
    assert not resident.run.data.exists()
    assert stored(streamed).exists()


def test_data_that_is_damaged_while_a_child_is_trained_is_made_again_and_the_score_is_the_same(
    make: Callable[..., Child], trouble: Trouble
) -> None:
    wanted = make().train(0, 3)
    child = make(**STREAMED)
    trouble.batches.clear()
    trouble.strike = lambda number, x: flip_a_bit(stored(child)) if number == BATCHES + 2 else None

    report = child.train(0, 3)

    (note,) = report.notes
    assert note == f"{stored(child)} was damaged; the data was decoded again"
    assert (report.score, report.epochs, report.metrics) == (wanted.score, 3, wanted.metrics)


def test_data_that_is_damaged_again_and_again_is_the_disks_fault_and_not_the_trials(
    make: Callable[..., Child], trouble: Trouble
) -> None:
    child = make(**STREAMED)
    child.train(0, 1)
    trouble.strike = lambda number, x: flip_a_bit(stored(child))

    with pytest.raises(Exception, match="is not what was written") as caught:
        child.train(1, 5)

    assert failure_of(caught.value).kind == "disk"


def test_what_is_stored_counts_for_no_limit_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(positions: Positions) -> Iterator[Block]:
        for rows in np.array_split(np.arange(len(positions)), 40):
            yield rows, np.full((len(rows), 3, 64, 64), 7, dtype=np.uint8)

    labels = np.arange(20_000) % 2
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    DATASETS.register("made_here")(
        lambda config: Source(train=Undecoded(labels=labels, decode=decode), test=None, classes=("a", "b"))
    )
    selection = select(DataConfig(source="made_here"))

    with limit(resource.RLIMIT_DATA, own_memory() + 2**26):  # the images take 234 MiB
        with pytest.raises(MemoryError):
            load_splits(selection.config)
        splits, opened = open_stored(tmp_path, selection)
        batch = opened.read(np.arange(1000, 2000))

    assert (batch == 7).all()
    assert splits.mean == (7.0, 7.0, 7.0)


def peak_of(act: Callable[[], object]) -> int:
    """The most bytes that numpy and Python held while `act` ran; what the process had freed before does not count."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_statistics_of_vectors_in_a_file_hold_no_feature_whole(tmp_path: Path) -> None:
    num = 12_000_000
    vectors = np.memmap(tmp_path / "vectors", dtype=np.float32, mode="w+", shape=(num, 2))
    vectors[:, 1] = 3
    whole = 8 * num  # one feature in doubles

    assert peak_of(lambda: vectors[:, 0].astype(np.float64).mean()) >= whole
    assert peak_of(lambda: feature_statistics(vectors, ("zero", "three"))) < whole
    assert feature_statistics(vectors, ("zero", "three")) == ((0.0, 3.0), (1.0, 1.0))


def test_data_that_was_deleted_comes_back(make: Callable[..., Child]) -> None:
    wanted = make().train(0, 1)
    child = make(**STREAMED)
    child.train(0, 1)
    shutil.rmtree(child.run.data)
    again = Child(child.run.root.parent, data=RICH, executor=STREAMED)

    assert again.train(1, 1).score == wanted.score
    assert stored(again).exists()


@linux_only
def test_a_child_whose_loader_process_is_killed_goes_on_without_and_says_so(
    make: Callable[..., Child], trouble: Trouble
) -> None:
    wanted = make().train(0, 3)
    child = make(data_gib=0, loaders=1)
    trouble.batches.clear()

    def kill(number: int, x: torch.Tensor) -> None:
        if number == BATCHES + 2:
            loader = child.evaluator._holder.get().loader
            (process,) = loader._loader._iterator._workers  # type: ignore[union-attr]
            os.kill(process.pid, signal.SIGKILL)
            process.join()

    trouble.strike = kill
    report = child.train(0, 3)

    assert report.notes == ("a loader process died; the worker reads its data itself from here on",)
    assert (report.score, report.metrics) == (wanted.score, wanted.metrics)
    assert child.train(1, 3, 0).notes == ()


def test_a_search_and_its_final_training_on_streamed_data_end_as_on_resident_data(tmp_path: Path) -> None:
    ended = {}
    for name, executor in (("resident", {}), ("streamed", STREAMED)):
        config = write_config(tmp_path / f"{name}.yaml", executor=executor, search={"trials": 4})
        run = RunDirectory(tmp_path / name)
        assert run_search(config, run.root).finished
        trial = history_of(read_events(run.journal), run.journal).trials[0]
        ended[name] = timeless(run.root), final(run, config, trial.architecture, trial.key)

    assert ended["resident"] == ended["streamed"]
    (path,) = (tmp_path / "streamed" / "data").rglob("examples.bin")  # one file for both
    assert path.stat().st_size == (240 + 359) * 64


def final(run: RunDirectory, config: Path, architecture: Architecture, key: str) -> dict[str, Any]:
    trainer = FinalTrainer(assemble.load(config, []), run, torch.device("cpu"))
    assignment = FinalAssignment(trial=0, key=key, architecture=architecture, epochs=2, number=0, seed=3)
    return trainer(assignment, lambda: False)


def test_data_that_cannot_be_decoded_is_said_before_the_first_trial(tmp_path: Path) -> None:
    rows = [f"{number / 7},{number % 3}" for number in range(60)]
    (tmp_path / "table.csv").write_text("\n".join(["a,kind", *rows]) + "\n")
    space = {
        "stem": {"width": 4, "operation": "linear"},
        "cells": {"body": {"nodes": 1, "operations": ["linear", "skip"]}},
    }
    config = write_config(
        tmp_path / "tiny.yaml",
        data={"source": "csv", "path": str(tmp_path / "table.csv"), "train_limit": None},
        space={**space, "stages": [{"cell": "body", "width": [4, 6], "transition": "linear"}]},
        executor=STREAMED,
    )
    experiment = assemble.check(assemble.load(config, []))
    run = assemble.new_run(experiment, config, tmp_path / "run")
    rows[30] = "1e99,0"
    (tmp_path / "table.csv").write_text("\n".join(["a,kind", *rows]) + "\n")

    with pytest.raises(DataError, match=r"table\.csv:32:1: .* no finite number"):
        run_search(config, run.root)

    assert read_events(run.journal) == []


@contextmanager
def streaming_worker(tmp_path: Path) -> Iterator[Callable[[int], dict[str, Any]]]:
    """A worker with two loader processes, and what has it read all its data once."""
    config = write_config(tmp_path / "tiny.yaml", executor={"data_gib": 0, "loaders": 2})
    setup = worker_setup(assemble.load(config, []), RunDirectory(tmp_path / "run"))
    with make_local(
        "streaming_handler:build", setup, [Slot(name="cpu:0", memory_bytes=2**30)], None, time.time
    ) as live:

        def read(number: int) -> dict[str, Any]:
            live.submit(Task(number=number, payload={}, log=tmp_path / "log.txt"))
            (outcome,) = live.collect(60)
            assert outcome.reply is not None, outcome
            return dict(outcome.reply)

        yield read


@linux_only
def test_loader_processes_do_not_outlive_a_worker_that_was_killed_not_even_a_halted_one(tmp_path: Path) -> None:
    with streaming_worker(tmp_path) as read:
        first, again = read(0), read(1)
        assert first == again  # the same processes
        assert (first["seen"], len(first["loaders"]), first["notes"]) == (180, 2, [])
        ends = [os.pidfd_open(pid) for pid in first["loaders"]]
        os.kill(first["loaders"][0], signal.SIGSTOP)

        os.kill(first["pid"], signal.SIGKILL)

        for end in ends:
            assert readiness.select([end], [], [], 60)[0], "a loader process outlived its worker"
            os.close(end)


@linux_only
def test_a_loader_process_that_is_killed_between_two_tasks_does_not_hang_its_worker(tmp_path: Path) -> None:
    with streaming_worker(tmp_path) as read:
        first = read(0)
        end = os.pidfd_open(first["loaders"][0])
        os.kill(first["loaders"][0], signal.SIGKILL)
        assert readiness.select([end], [], [], 60)[0]
        os.close(end)

        second = read(1)

    assert (second["pid"], second["seen"], second["loaders"]) == (first["pid"], first["seen"], [])
    assert second["notes"] == ["a loader process died; the worker reads its data itself from here on"]
