"""The evaluator `train`: a trial becomes a trained child and its validation accuracy. Knows nothing of other trials.

A child goes on from its own checkpoint, else from its parent's, else (a checkpoint is lost or damaged) from the nearest
ancestor that is whole. A child for which the device has too little memory is tried once more, its batches in halves.
Log and journal say so.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.interrupt import Interrupted
from nasflow_cli.core.registry import EVALUATORS
from nasflow_cli.core.seeds import Purpose, derived_seed
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.store.files import make_directory, open_lines, write_whole
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from nasflow_cli.train.data import Splits, load_splits
from nasflow_cli.train.protocol import Assignment, Report
from nasflow_cli.train.trainer import Images, Normalise, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resident:
    """The data of a worker, loaded once."""

    splits: Splits
    train: Images
    validation: Images
    normalise: Normalise = field(repr=False)


class ChildTrainer:
    """Trains children on one device; the data stays there between them."""

    def __init__(self, config: ExperimentConfig, run: RunDirectory, device: torch.device) -> None:
        self.config = config
        self.run = run
        self.device = device
        self.space = SearchSpace(config.space, operation_facts())
        self._data: _Resident | None = None

    def data(self) -> _Resident:
        """The data, loaded at the first call."""
        if self._data is None:
            splits = load_splits(self.config.data_section)
            self._data = _Resident(
                splits=splits,
                train=Images.on(self.device, splits.train),
                validation=Images.on(self.device, splits.validation),
                normalise=Normalise(splits, self.device),
            )
        return self._data

    def __call__(self, assignment: Assignment, should_stop: Callable[[], bool]) -> Report:
        """Train up to the budget and score. Raises Interrupted at the end of an epoch when told to stop.

        A device's OutOfMemoryError is raised when half batches do not fit either.
        """
        self.data()
        notes: list[str] = []
        try:
            return self._train(assignment, should_stop, notes)
        except torch.cuda.OutOfMemoryError as error:
            notes.append(f"the device had too little memory ({error}): the gradient is summed over half batches")
            _log(notes[-1])
        # Not in the handler: what was raised holds the tensors of the first try.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._train(assignment, should_stop, notes, parts=2)

    def _train(
        self, assignment: Assignment, should_stop: Callable[[], bool], notes: list[str], parts: int = 1
    ) -> Report:
        data = self.data()
        graph = self.space.graph(assignment.architecture)
        shape, classes = data.splits.input_shape, data.splits.num_classes
        network = build(graph, shape, classes, derived_seed(assignment.seed, 0, Purpose.WEIGHTS))
        trainer = Trainer(network, self.config.training, data.normalise, assignment.seed, self.device)
        trainer.parts = parts
        start = self._go_on(trainer, assignment, notes)
        self._epochs(trainer, assignment, start, should_stop)
        score = trainer.evaluate(data.validation)
        about = cost(graph, shape, classes)
        # What was paid before an interruption counts: an interrupted trial reports what any other would.
        paid = _lines(self.run.trial(assignment.number).metrics)
        metrics = {"params": float(about.params), "flops": float(about.flops), "validation_loss": score.loss}
        if paid:
            metrics["train_loss"] = paid[-1]["train_loss"]
        return Report(score=score.accuracy, epochs=len(paid), metrics=metrics, notes=tuple(notes))

    def _go_on(self, trainer: Trainer, assignment: Assignment, notes: list[str]) -> int:
        """Restore the nearest whole checkpoint and return the number of epochs that it has.

        What cannot be gone on from is added to `notes`, with what was done instead.
        """
        lost: list[str] = []
        epochs, source = 0, "starting from fresh weights"
        for number in assignment.lineage:
            path = self.run.trial(number).checkpoint
            try:
                checkpoint = load_checkpoint(path, assignment.key, assignment.seed, assignment.budget)
                trainer.restore(checkpoint.tensors)
            except CheckpointError as error:
                if path.exists() or number != assignment.number:
                    lost.append(f"cannot go on from trial {number}: {error}")
            else:
                epochs, source = checkpoint.epoch, f"going on from trial {number} after {checkpoint.epoch} epochs"
                break
        if lost:
            notes.append(f"{'; '.join(lost)}; {source}")
        _log("\n".join([*lost, source]))
        return epochs

    def _epochs(self, trainer: Trainer, assignment: Assignment, start: int, should_stop: Callable[[], bool]) -> None:
        data, files = self.data(), self.run.trial(assignment.number)
        make_directory(files.root)
        _keep_first(files.metrics, start)
        saved = time.monotonic()
        with open_lines(files.metrics) as metrics:
            for number in range(start, assignment.budget):
                began = time.monotonic()
                loss = trainer.epoch(number, data.train, self.config.data_section.augment)
                now = time.monotonic()
                line = {"epoch": number + 1, "train_loss": loss, "seconds": round(now - began, 4)}
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()
                last, stop = number + 1 == assignment.budget, should_stop()
                if last or stop or now - saved >= self.config.training.checkpoint_every_s:
                    self._save(trainer, assignment, number + 1)
                    saved = now
                if stop and not last:
                    raise Interrupted(f"stopped after epoch {number + 1}")

    def _save(self, trainer: Trainer, assignment: Assignment, epoch: int) -> None:
        checkpoint = Checkpoint(key=assignment.key, seed=assignment.seed, epoch=epoch, tensors=trainer.tensors())
        save_checkpoint(self.run.trial(assignment.number).checkpoint, checkpoint)


def _keep_first(path: Path, epochs: int) -> None:
    """Cut the lines of epochs that are about to be trained again, and a torn last one."""
    if path.exists():
        kept = [json.dumps(line) + "\n" for line in _lines(path) if line["epoch"] <= epochs]
        write_whole(path, "".join(kept))


def _lines(path: Path) -> list[dict[str, float]]:
    """The whole lines of a trial's metrics. They are not synced: what a power cut left of them may be anything."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [line for line in map(_line, lines) if line is not None]


def _line(text: str) -> dict[str, float] | None:
    try:
        line = json.loads(text)
        return {"epoch": int(line["epoch"]), "train_loss": float(line["train_loss"]), "seconds": float(line["seconds"])}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _log(line: str) -> None:
    """Write to the trial's log, which is the worker's standard error."""
    sys.stderr.write(f"{line}\n")


@EVALUATORS.register("train")
def train(config: ExperimentConfig, run: RunDirectory, device: torch.device) -> ChildTrainer:
    """Train a child and score it on the validation split."""
    return ChildTrainer(config, run, device)
