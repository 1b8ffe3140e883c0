"""What goes wrong while a child is trained: its memory, its checkpoints, its disk. Each fault is a real one."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from child import BATCHES, Child, same
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.data_config import AugmentConfig
from nasflow_cli.core.interrupt import Interrupted
from nasflow_cli.execute.boundary import failure_of
from nasflow_cli.train import child as child_module
from nasflow_cli.train.checkpoint import Checkpoint, save_checkpoint
from nasflow_cli.train.data import Labelled, Splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.trainer import Trainer

Trouble = Any


@contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    """Have the system refuse this process more than so much."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def own_memory() -> int:
    """Bytes that RLIMIT_DATA counts."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmData:\s+(\d+) kB", status)[0]) * 1024


def out_of_device_memory(*strokes: int) -> Callable[[int, Tensor], None]:
    """What CUDA's allocator raises, at these batches; at every one without any."""

    def strike(number: int, x: Tensor) -> None:
        if not strokes or number in strokes:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    return strike


def test_a_child_too_large_for_its_device_is_trained_with_half_batches(child: Child, trouble: Trouble) -> None:
    trouble.strike = out_of_device_memory(1)

    report = child.train(0, 2)

    assert trouble.batches == [32] + [16] * (2 * 2 * BATCHES)
    assert (report.epochs, len(report.notes)) == (2, 1)
    assert "Tried to allocate 20.00 GiB" in report.notes[0]
    assert "half batches" in report.notes[0]


def test_half_batches_go_on_from_the_last_checkpoint_and_pay_no_epoch_twice(child: Child, trouble: Trouble) -> None:
    trouble.strike = out_of_device_memory(BATCHES + 2)

    report = child.train(0, 3)

    assert trouble.batches[BATCHES + 1 :][:2] == [32, 16]
    assert [json.loads(line)["epoch"] for line in child.epochs(0)] == [1, 2, 3]
    assert report.epochs == 3


def test_a_child_whose_half_batches_do_not_fit_either_fails_after_two_tries(child: Child, trouble: Trouble) -> None:
    trouble.strike = out_of_device_memory()

    with pytest.raises(torch.OutOfMemoryError) as caught:
        child.train(0, 1)

    assert trouble.batches == [32, 16]
    assert failure_of(caught.value).kind == "memory"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_real_device_too_it_is_tried_with_half_batches(child: Child, trouble: Trouble) -> None:
    child.evaluator.device = torch.device("cuda")
    trouble.strike = lambda number, x: torch.empty(2**50 if number == 1 else 1, dtype=torch.uint8, device="cuda")

    report = child.train(0, 1)

    assert "half batches" in report.notes[0]
    assert report.metrics["device_memory_mib"] > 0


def test_what_a_trial_took_of_its_device_is_a_metric_of_the_try_that_succeeded(
    child: Child, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = {"device_memory_mib": 0.0}

    def take(number: int, x: Tensor) -> None:
        peak["device_memory_mib"] = max(peak["device_memory_mib"], float(len(x)))
        out_of_device_memory(1)(number, x)

    trouble.strike = take
    monkeypatch.setattr(child_module, "forget_peak", lambda device: peak.update(device_memory_mib=0.0))
    monkeypatch.setattr(child_module, "peak_memory", lambda device: dict(peak))

    assert child.train(0, 1).metrics["device_memory_mib"] == 16


def test_on_a_cpu_nothing_is_said_of_a_devices_memory(child: Child) -> None:
    assert "device_memory_mib" not in child.train(0, 1).metrics


def test_half_batches_add_up_to_the_gradient_of_the_whole_batch() -> None:
    rng = np.random.default_rng(0)
    split = Labelled(images=rng.integers(0, 256, (40, 1, 4, 4), dtype=np.uint8), labels=np.arange(40) % 3)
    splits = Splits(
        train=split, validation=split, test=split, classes=("a", "b", "c"), mean=(99.0,), std=(50.0,), test_indices=None
    )
    trained = []
    for parts in (1, 3):
        torch.manual_seed(0)
        cpu = torch.device("cpu")
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        trainer = Trainer(network, TrainingConfig(batch_size=20), Normalise(splits, cpu), 3, cpu)
        trainer.parts = parts
        loss = trainer.epoch(0, Images.on(cpu, split), AugmentConfig(), lambda _: 0.1)
        trained.append((loss, network.state_dict()))

    assert trained[0][0] == pytest.approx(trained[1][0], rel=1e-6)
    for name, whole in trained[0][1].items():
        torch.testing.assert_close(trained[1][1][name], whole, rtol=1e-5, atol=1e-7)


def test_a_child_that_needs_more_memory_than_the_limit_fails_and_the_next_is_trained(
    child: Child, trouble: Trouble
) -> None:
    child.train(0, 1)  # what is allocated once is there
    kept: list[Tensor] = []
    trouble.strike = lambda number, x: kept.append(torch.empty(2**29, dtype=torch.uint8))

    with limit(resource.RLIMIT_DATA, own_memory() + 2**28):
        with pytest.raises(RuntimeError) as caught:
            child.train(1, 1)
        trouble.strike = lambda number, x: None
        report = child.train(2, 1)

    assert failure_of(caught.value).kind == "memory"
    assert report.notes == ()


class Bomb:
    """Something that runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 0x10
    path.write_bytes(data)


def said_by(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    header = path.read_bytes()
    length = int.from_bytes(header[:8], "little")
    said: dict[str, Any] = json.loads(json.loads(header[8 : 8 + length])["__metadata__"]["nasflow"])
    return said


def describe(path: Path, about: object) -> None:
    """Change what a checkpoint says of itself, and not what it holds."""
    save_file(load_file(path), path, {"nasflow": json.dumps(about)})


def hold(path: Path, prefix: str, value: Tensor | None) -> None:
    """Have a checkpoint hold something else in the place of its last weight of a kind, with the right checksum."""
    said, tensors = said_by(path), load_file(path)
    name = max(name for name in tensors if name.startswith(prefix) and tensors[name].ndim)
    del tensors[name]
    tensors |= {} if value is None else {name: value}
    save_checkpoint(path, Checkpoint(key=said["key"], seed=said["seed"], epoch=said["epoch"], tensors=tensors))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "zeros, as a power cut leaves them": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a flipped bit": flip_a_bit,
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "a hostile pickle": lambda path: path.write_bytes(pickle.dumps(Bomb(path.with_name("proof")))),
    "a hostile torch file": lambda path: torch.save(Bomb(path.with_name("proof")), path),
    "of another network": lambda path: describe(path, {**said_by(path), "key": "other"}),
    "of an epoch to come": lambda path: describe(path, {**said_by(path), "epoch": 99}),
    "of no epoch": lambda path: describe(path, {**said_by(path), "epoch": "2"}),
    "described by a list": lambda path: describe(path, [said_by(path)]),
    "without a description": lambda path: save_file(load_file(path), path),
    "without a weight": lambda path: hold(path, "average.", None),
    "with a weight of another shape": lambda path: hold(path, "model.", torch.zeros(7)),
    "with a moment of another shape": lambda path: hold(path, "optimizer.", torch.zeros(7)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def interrupt_after(epochs: int) -> Callable[[], bool]:
    """Wish for a stop at the end of that epoch."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= epochs


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "a folder"])
def test_a_trial_whose_checkpoint_is_damaged_restarts_from_the_previous_rung_and_says_so(
    child: Child, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    child.train(9, 3)  # what it should come to
    child.train(0, 1)
    with pytest.raises(Interrupted):
        child.train(1, 3, 0, should_stop=interrupt_after(1))
    DAMAGE[damage](child.checkpoint(1))

    report = child.train(1, 3, 0)

    (note,) = report.notes
    assert note.startswith("cannot go on from trial 1: ")
    assert note.endswith("; going on from trial 0 after 1 epoch")
    assert "cannot go on from trial 1: " in capsys.readouterr().err
    assert report.epochs == 2
    assert same(child.weights(1), child.weights(9))
    assert not child.checkpoint(1).with_name("proof").exists()


@pytest.mark.parametrize("damage", ["cut short", "a flipped bit", "with a weight of another shape", "a folder"])
def test_a_trial_with_no_whole_checkpoint_at_all_starts_from_fresh_weights_and_says_so(
    child: Child, damage: str
) -> None:
    child.train(9, 2)
    child.train(0, 1)
    DAMAGE[damage](child.checkpoint(0))

    report = child.train(1, 2, 0)

    (note,) = report.notes
    assert note.startswith("cannot go on from trial 0: ")
    assert note.endswith("; starting from fresh weights")
    assert report.epochs == 2
    assert same(child.weights(1), child.weights(9))


def test_a_trial_that_goes_on_as_it_should_has_no_note(child: Child) -> None:
    child.train(0, 1)

    assert child.train(1, 2, 0).notes == ()


def test_metrics_that_a_power_cut_left_unreadable_end_no_trial(child: Child) -> None:
    with pytest.raises(Interrupted):
        child.train(0, 3, should_stop=interrupt_after(2))
    metrics = child.run.trial(0).metrics
    first = metrics.read_bytes().splitlines(keepends=True)[0]
    metrics.write_bytes(first + bytes(30) + b"\n" + b'{"epoch": 2, "train')

    report = child.train(0, 3)

    assert [json.loads(line)["epoch"] for line in child.epochs(0)] == [1, 3]
    assert report.epochs == 2


def test_a_checkpoint_that_finds_no_room_is_the_disks_failure_and_the_one_before_it_stays(
    child: Child, trouble: Trouble
) -> None:
    child.train(0, 1)
    size = child.checkpoint(0).stat().st_size
    whole = child.checkpoint(0).read_bytes()

    with limit(resource.RLIMIT_FSIZE, size // 2), pytest.raises(Exception, match="the disk is full") as caught:
        child.train(0, 2)

    assert failure_of(caught.value).kind == "disk"
    assert child.checkpoint(0).read_bytes() == whole
    assert child.train(0, 2).notes == ()
