"""The evaluator `train`: a trial becomes a trained child and its validation accuracy. Knows nothing of other trials.

A child goes on from its own checkpoint, else from its parent's, else (a checkpoint is lost or damaged) from the nearest
ancestor that is whole. A child for which the device has too little memory is tried once more, its batches in halves.
Log and journal say so.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.registry import EVALUATORS
from nasflow_cli.core.seeds import Purpose, derived_seed
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.store.progress import recorded_epochs
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.device import forget_peak, peak_memory
from nasflow_cli.train.epochs import Training, go_on, in_parts, log, train_epochs
from nasflow_cli.train.protocol import Assignment, Report
from nasflow_cli.train.schedule import Schedule
from nasflow_cli.train.trainer import Trainer
from nasflow_cli.train.worker_data import DataHolder, WorkerData, peak_memory_mib


class ChildTrainer:
    """Trains children on one device; the data stays there between them."""

    def __init__(self, config: ExperimentConfig, run: RunDirectory, device: torch.device) -> None:
        self.config = config
        self.run = run
        self.device = device
        self.space = SearchSpace(config.space, operation_facts())
        self._holder = DataHolder(config, run, device, "search")

    def __call__(self, assignment: Assignment, should_stop: Callable[[], bool]) -> Report:
        """Train up to the budget and score. Raises Interrupted at the end of an epoch when told to stop.

        A device's OutOfMemoryError is raised when half batches do not fit either.
        """
        notes: list[str] = []

        def train(data: WorkerData) -> Report:
            return in_parts(lambda parts: self._train(assignment, should_stop, data, parts, notes), notes)

        return self._holder.use(train, notes)

    def close(self) -> None:
        """Forget the data, and end the processes that read it."""
        self._holder.close()

    def _train(
        self,
        assignment: Assignment,
        should_stop: Callable[[], bool],
        data: WorkerData,
        parts: int,
        notes: list[str],
    ) -> Report:
        forget_peak(self.device)
        graph = self.space.graph(assignment.architecture)
        shape, classes = data.input_shape, data.num_classes
        network = build(graph, shape, classes, derived_seed(assignment.seed, 0, Purpose.WEIGHTS))
        trainer = Trainer(network, self.config.training, data.normalise, assignment.seed, self.device)
        trainer.parts = parts
        log(f"training in {trainer.precision}")
        training = Training(
            key=assignment.key,
            seed=assignment.seed,
            schedule=Schedule(
                recipe=self.config.training, budget=assignment.budget, horizon=self.config.search.budget.max
            ),
            files=self.run.trial(assignment.number),
            checkpoint_every_s=self.config.training.checkpoint_every_s,
        )
        lineage = [(f"trial {number}", self.run.trial(number)) for number in assignment.lineage]
        start = go_on(trainer, training, lineage, notes)
        train_epochs(trainer, training, start, (data.train, self.config.data_section.augment), should_stop)
        score = trainer.evaluate(data.scored)
        log(f"the largest resident memory of this worker so far is {peak_memory_mib()} MiB")
        about = cost(graph, shape, classes)
        # What was paid before an interruption counts: an interrupted trial reports what any other would.
        paid = recorded_epochs(training.files)
        metrics = {"params": float(about.params), "flops": float(about.flops), "validation_loss": score.loss}
        metrics |= peak_memory(self.device)
        if paid:
            metrics["train_loss"] = paid[-1]["train_loss"]
        return Report(score=score.accuracy, epochs=len(paid), metrics=metrics, notes=tuple(notes))


@EVALUATORS.register("train")
def train(config: ExperimentConfig, run: RunDirectory, device: torch.device) -> ChildTrainer:
    """Train a child and score it on the validation split."""
    return ChildTrainer(config, run, device)
