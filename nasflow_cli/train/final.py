"""Final training in a worker: a network from scratch on training and validation data, scored once on the test split.

The recipe is the search's. Values are normalised as the search normalises them, by the train split alone, so that a
network of either kind reads the same input. Refuses to look at the test split before the last epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.seeds import Purpose, derived_seed
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.store.progress import recorded_epochs
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.epochs import Training, go_on, in_parts, log, train_epochs
from nasflow_cli.train.schedule import Schedule
from nasflow_cli.train.trainer import Trainer
from nasflow_cli.train.worker import opened
from nasflow_cli.train.worker_data import DataHolder, WorkerData, peak_memory_mib


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalAssignment:
    """What a worker needs to know: the network of `trial`, for so many `epochs`, from seed `number`."""

    trial: int
    key: str
    architecture: Architecture
    epochs: int
    number: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the plain value that travels to the worker."""
        return {
            "trial": self.trial,
            "key": self.key,
            "architecture": self.architecture.to_json(),
            "epochs": self.epochs,
            "number": self.number,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FinalAssignment:
        """Read what `to_json` wrote."""
        return cls(**{**value, "architecture": Architecture.from_json(value["architecture"])})


class FinalTrainer:
    """Trains final networks on one device; the data stays there between seeds."""

    def __init__(self, config: ExperimentConfig, run: RunDirectory, device: torch.device) -> None:
        self.config = config
        self.run = run
        self.device = device
        self.space = SearchSpace(config.space, operation_facts())
        self._holder = DataHolder(config, run, device, "final")

    def __call__(self, assignment: FinalAssignment, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """Train and test. Returns `score` (test accuracy), `epochs`, `metrics` and `notes` (what was mended).

        Called again after anything that ended it, it goes on from its checkpoint and returns the same (on the CPU).
        Raises Interrupted at the end of an epoch when told to stop, DivergedError.
        """
        notes: list[str] = []

        def train(data: WorkerData) -> dict[str, Any]:
            return in_parts(lambda parts: self._train(assignment, should_stop, data, parts, notes), notes)

        reply = self._holder.use(train, notes)
        return {**reply, "notes": notes}

    def close(self) -> None:
        """Forget the data, and end the processes that read it."""
        self._holder.close()

    def _train(
        self,
        assignment: FinalAssignment,
        should_stop: Callable[[], bool],
        data: WorkerData,
        parts: int,
        notes: list[str],
    ) -> dict[str, Any]:
        graph = self.space.graph(assignment.architecture)
        shape, classes = data.input_shape, data.num_classes
        network = build(graph, shape, classes, derived_seed(assignment.seed, 0, Purpose.WEIGHTS))
        trainer = Trainer(network, self.config.training, data.normalise, assignment.seed, self.device)
        trainer.parts = parts
        log(f"training in {trainer.precision}")
        training = Training(
            key=assignment.key,
            seed=assignment.seed,
            schedule=Schedule(recipe=self.config.training, budget=assignment.epochs, horizon=assignment.epochs),
            files=self.run.final_training(assignment.trial, assignment.epochs, assignment.number),
            checkpoint_every_s=self.config.training.checkpoint_every_s,
        )
        start = go_on(trainer, training, [("its checkpoint", training.files)], notes=notes)
        train_epochs(trainer, training, start, (data.train, self.config.data_section.augment), should_stop)
        score = trainer.evaluate(data.scored)
        log(f"the largest resident memory of this worker so far is {peak_memory_mib()} MiB")
        about = cost(graph, shape, classes)
        paid = recorded_epochs(training.files)
        metrics = {
            "test_loss": score.loss,
            "train_loss": paid[-1]["train_loss"] if paid else 0.0,
            "num_train": len(data.train),
            "num_test": len(data.scored),
            "params": about.params,
            "flops": about.flops,
            "gpu": int(self.device.type == "cuda"),
        }
        return {"score": score.accuracy, "epochs": len(paid), "metrics": metrics}


def make_handler(setup: Mapping[str, Any]) -> Callable[[dict[str, Any], Callable[[], bool]], dict[str, Any]]:
    """Return the function that turns a task into a reply; `setup` is what `worker.opened` reads."""
    trainer = FinalTrainer(*opened(setup))

    def handle(payload: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        return trainer(FinalAssignment.from_json(payload), should_stop)

    return handle
