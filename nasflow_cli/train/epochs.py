"""Epoch after epoch with a record and checkpoints on the way: what a search's child and a final training share.

Knows where the files of one training lie and nothing of what it is for. What went before an interruption is gone on
from, so that an interrupted training ends as an uninterrupted one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from nasflow_cli.core.counted import counted
from nasflow_cli.core.data_config import AugmentConfig
from nasflow_cli.core.interrupt import Interrupted
from nasflow_cli.store.files import make_directory, open_lines, write_whole
from nasflow_cli.store.progress import recorded_epochs
from nasflow_cli.store.run_directory import TrialDirectory
from nasflow_cli.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from nasflow_cli.train.feed import Feed
from nasflow_cli.train.schedule import Schedule
from nasflow_cli.train.trainer import Trainer

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training: which network (`key`) from which `seed`, by which schedule, and where its files lie."""

    key: str
    seed: int
    schedule: Schedule
    files: TrialDirectory
    checkpoint_every_s: float


def go_on(trainer: Trainer, training: Training, places: Sequence[tuple[str, TrialDirectory]], notes: list[str]) -> int:
    """Restore the first whole checkpoint among named places and return how many epochs it has; 0 without one.

    What cannot be gone on from is added to `notes`, with what was done instead.
    """
    lost: list[str] = []
    epochs, source = 0, "starting from fresh weights"
    for name, files in places:
        try:
            checkpoint = _begun(training, files)
            trainer.restore(checkpoint.tensors)
        except CheckpointError as error:
            if files.checkpoint.exists() or files != training.files:
                lost.append(f"cannot go on from {name}: {error}")
        else:
            epochs, source = checkpoint.epoch, f"going on from {name} after {counted(checkpoint.epoch, 'epoch')}"
            break
    if lost:
        notes.append(f"{'; '.join(lost)}; {source}")
    log("\n".join([*lost, source]))
    return epochs


def _begun(training: Training, files: TrialDirectory) -> Checkpoint:
    """What a training goes on from in a folder: its own last epoch, or the stem that another has in common with it."""
    own = files == training.files
    path = files.stem if not own and files.stem.exists() else files.checkpoint
    checkpoint = load_checkpoint(path, training.key, training.seed, training.schedule.budget)
    if checkpoint.annealed and not own:
        raise CheckpointError(f"{path.name} is at the end of its schedule, and {files.stem.name} is not there")
    return checkpoint


def in_parts(train: Callable[[int], T], notes: list[str]) -> T:
    """Call `train` with whole batches (1 part) and, when the device has too little memory, once more with halves.

    A device's OutOfMemoryError is raised when halves do not fit either.
    """
    try:
        return train(1)
    except torch.cuda.OutOfMemoryError as error:
        notes.append(f"the device had too little memory ({error}): the gradient is summed over half batches")
        log(notes[-1])
    # Not in the handler: what was raised holds the tensors of the first try.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return train(2)


def train_epochs(
    trainer: Trainer,
    training: Training,
    start: int,
    data: tuple[Feed, AugmentConfig],
    should_stop: Callable[[], bool],
) -> None:
    """Train the epochs from `start` (as many are done) to the budget; the last one leaves a checkpoint.

    Raises Interrupted at the end of an epoch, with a checkpoint of it, when told to stop; DivergedError.
    """
    files = training.files
    make_directory(files.root)
    _keep_first(files, start)
    saved = time.monotonic()
    with open_lines(files.metrics) as metrics:
        for number in range(start, training.schedule.budget):
            began = time.monotonic()
            loss = trainer.epoch(number, *data, training.schedule.rate)
            now = time.monotonic()
            line = {"epoch": number + 1, "train_loss": loss, "seconds": round(now - began, 4)}
            metrics.write(json.dumps(line) + "\n")
            metrics.flush()
            last, stop = number + 1 == training.schedule.budget, should_stop()
            if number + 1 == training.schedule.stem and training.schedule.leaves_stem:
                _save(trainer, training, number + 1, files.stem)
            if last or stop or now - saved >= training.checkpoint_every_s:
                _save(trainer, training, number + 1, files.checkpoint)
                saved = now
            if stop and not last:
                raise Interrupted(f"stopped after epoch {number + 1}")


def _save(trainer: Trainer, training: Training, epoch: int, path: Path) -> None:
    checkpoint = Checkpoint(
        key=training.key,
        seed=training.seed,
        epoch=epoch,
        annealed=epoch > training.schedule.stem,
        tensors=trainer.tensors(),
    )
    save_checkpoint(path, checkpoint)


def _keep_first(files: TrialDirectory, epochs: int) -> None:
    """Cut the lines of epochs that are about to be trained again, and a torn last one."""
    if files.metrics.exists():
        kept = [json.dumps(line) + "\n" for line in recorded_epochs(files) if line["epoch"] <= epochs]
        write_whole(files.metrics, "".join(kept))


def log(line: str) -> None:
    """Write to the training's log, which is the worker's standard error."""
    sys.stderr.write(f"{line}\n")
