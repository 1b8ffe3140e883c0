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

from nasflow_cli.core.config import AugmentConfig
from nasflow_cli.core.interrupt import Interrupted
from nasflow_cli.store.files import write_whole
from nasflow_cli.store.run_directory import TrialDirectory
from nasflow_cli.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from nasflow_cli.train.trainer import Images, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training: which network (`key`) from which `seed`, to which epoch (`budget`), and where its files lie."""

    key: str
    seed: int
    budget: int
    files: TrialDirectory
    checkpoint_every_s: float


def go_on(trainer: Trainer, training: Training, places: Sequence[tuple[str, TrialDirectory]]) -> int:
    """Restore the first whole checkpoint among named places and return how many epochs it has; 0 without one."""
    for name, files in places:
        try:
            checkpoint = load_checkpoint(files.checkpoint, training.key, training.seed, training.budget)
            trainer.restore(checkpoint.tensors)
        except (CheckpointError, KeyError, RuntimeError) as error:
            if files.checkpoint.exists() or files != training.files:
                _log(f"cannot go on from {name}: {error}")
        else:
            _log(f"going on from {name} after {checkpoint.epoch} epochs")
            return checkpoint.epoch
    _log("starting from fresh weights")
    return 0


def train_epochs(
    trainer: Trainer,
    training: Training,
    start: int,
    data: tuple[Images, AugmentConfig],
    should_stop: Callable[[], bool],
) -> None:
    """Train the epochs from `start` (as many are done) to the budget; the last one leaves a checkpoint.

    Raises Interrupted at the end of an epoch, with a checkpoint of it, when told to stop; DivergedError.
    """
    files = training.files
    files.root.mkdir(parents=True, exist_ok=True)
    _keep_first(files.metrics, start)
    saved = time.monotonic()
    with files.metrics.open("a", encoding="utf-8") as metrics:
        for number in range(start, training.budget):
            began = time.monotonic()
            loss = trainer.epoch(number, *data)
            now = time.monotonic()
            line = {"epoch": number + 1, "train_loss": loss, "seconds": round(now - began, 4)}
            metrics.write(json.dumps(line) + "\n")
            metrics.flush()
            last, stop = number + 1 == training.budget, should_stop()
            if last or stop or now - saved >= training.checkpoint_every_s:
                _save(trainer, training, number + 1)
                saved = now
            if stop and not last:
                raise Interrupted(f"stopped after epoch {number + 1}")


def recorded_epochs(files: TrialDirectory) -> list[dict[str, float]]:
    """The whole lines of a training's metrics, one an epoch that it has paid for."""
    return _lines(files.metrics)


def _save(trainer: Trainer, training: Training, epoch: int) -> None:
    checkpoint = Checkpoint(key=training.key, seed=training.seed, epoch=epoch, tensors=trainer.tensors())
    save_checkpoint(training.files.checkpoint, checkpoint)


def _keep_first(path: Path, epochs: int) -> None:
    """Cut the lines of epochs that are about to be trained again, and a torn last one."""
    if path.exists():
        kept = [json.dumps(line) + "\n" for line in _lines(path) if line["epoch"] <= epochs]
        write_whole(path, "".join(kept))


def _lines(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _log(line: str) -> None:
    """Write to the training's log, which is the worker's standard error."""
    sys.stderr.write(f"{line}\n")
