"""The evaluator `train`: a trial becomes a trained child and its validation accuracy. Knows nothing of other trials.

A child goes on from its own checkpoint, else from its parent's, else (a checkpoint is lost or damaged) from the nearest
ancestor that is whole, and its log says so.
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
from nasflow_cli.store.files import write_whole
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
        """Train up to the budget and score. Raises Interrupted at the end of an epoch when told to stop."""
        data = self.data()
        graph = self.space.graph(assignment.architecture)
        shape, classes = data.splits.input_shape, data.splits.num_classes
        network = build(graph, shape, classes, derived_seed(assignment.seed, 0, Purpose.WEIGHTS))
        trainer = Trainer(network, self.config.training, data.normalise, assignment.seed, self.device)
        start = self._go_on(trainer, assignment)
        self._epochs(trainer, assignment, start, should_stop)
        score = trainer.evaluate(data.validation)
        about = cost(graph, shape, classes)
        # What was paid before an interruption counts: an interrupted trial reports what any other would.
        paid = _lines(self.run.trial(assignment.number).metrics)
        metrics = {"params": float(about.params), "flops": float(about.flops), "validation_loss": score.loss}
        if paid:
            metrics["train_loss"] = paid[-1]["train_loss"]
        return Report(score=score.accuracy, epochs=len(paid), metrics=metrics)

    def _go_on(self, trainer: Trainer, assignment: Assignment) -> int:
        """Restore the nearest whole checkpoint and return the number of epochs that it has."""
        for number in assignment.lineage:
            path = self.run.trial(number).checkpoint
            try:
                checkpoint = load_checkpoint(path, assignment.key, assignment.seed, assignment.budget)
                trainer.restore(checkpoint.tensors)
            except (CheckpointError, KeyError, RuntimeError) as error:
                if path.exists() or number != assignment.number:
                    _log(f"cannot go on from trial {number}: {error}")
            else:
                _log(f"going on from trial {number} after {checkpoint.epoch} epochs")
                return checkpoint.epoch
        _log("starting from fresh weights")
        return 0

    def _epochs(self, trainer: Trainer, assignment: Assignment, start: int, should_stop: Callable[[], bool]) -> None:
        data, files = self.data(), self.run.trial(assignment.number)
        files.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        _keep_first(files.metrics, start)
        saved = time.monotonic()
        with files.metrics.open("a", encoding="utf-8") as metrics:
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
    """The whole lines of a trial's metrics."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _log(line: str) -> None:
    """Write to the trial's log, which is the worker's standard error."""
    sys.stderr.write(f"{line}\n")


@EVALUATORS.register("train")
def train(config: ExperimentConfig, run: RunDirectory, device: torch.device) -> ChildTrainer:
    """Train a child and score it on the validation split."""
    return ChildTrainer(config, run, device)
