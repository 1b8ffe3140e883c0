"""The weights of a trial that is to be handed over: of its final training, else what the search left, else made again.

Changes nothing in the run. Refuses weights that are not at the end of their training.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.counted import counted
from nasflow_cli.core.errors import ConfigError, NasflowError, RunDirectoryError
from nasflow_cli.core.registry import EVALUATORS
from nasflow_cli.core.trial import Trial
from nasflow_cli.store.final_results import FinalTraining, WeightsOf, final_trainings, longest_of
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.checkpoint import CheckpointError, load_checkpoint
from nasflow_cli.train.protocol import Assignment, Evaluator
from nasflow_cli.train.trainer import DivergedError, scored_weights

Weights = dict[str, Tensor]


def final_weights(
    run: RunDirectory, trial: Trial, tell: Callable[[str], None], wanted: WeightsOf | None = None
) -> tuple[FinalTraining | None, Weights | None]:
    """The final training of a trial's network and the weights of its first seed; (None, None): take the search's.

    The longest final training counts, and of it the first seed that has a result, whatever their test scores are. One
    that is shorter than the search's own training counts only if it is `wanted`; `tell` hears so, and of a checkpoint
    that is lost. Raises RunDirectoryError when a result is damaged or a checkpoint that is wanted is lost, ConfigError
    when there is no final training and one is wanted.
    """
    training = None if wanted is WeightsOf.SEARCH else longest_of(final_trainings(run), trial.key)
    if training is None:
        if wanted is WeightsOf.FINAL:
            raise ConfigError(
                f"{run.root}: the network of trial {trial.number} has no final training; `nasflow train` makes one"
            )
        return None, None
    if wanted is None and training.epochs < trial.budget:
        tell(
            f"the weights are those of the search, after {counted(trial.budget, 'epoch')}: the longest final training "
            f"has only {training.epochs} (--weights final takes it all the same)"
        )
        return None, None
    first = training.results[0]
    path = run.final_training(training.trial, training.epochs, first.number).checkpoint
    try:
        checkpoint = load_checkpoint(path, training.key, first.seed, training.epochs)
    except CheckpointError as error:
        why = str(error)
    else:
        if checkpoint.epoch == training.epochs:
            return training, scored_weights(checkpoint.tensors)
        why = f"it has {checkpoint.epoch} of {counted(training.epochs, 'epoch')}"
    lost = f"the final training of trial {training.trial} has no weights ({why})"
    mend = f"delete {path.with_name('result.json')} and train again to have them"
    if wanted is WeightsOf.FINAL:
        raise RunDirectoryError(f"{lost}; {mend}")
    tell(f"{lost}: those of the search are taken; {mend}")
    return None, None


def searched_weights(
    run: RunDirectory, trial: Trial, config: ExperimentConfig, tell: Callable[[str], None]
) -> Weights | None:
    """The scored weights that the search left; None, and told, when they are lost but can be had again.

    Raises ConfigError when nothing can train them again.
    """
    try:
        checkpoint = load_checkpoint(run.trial(trial.number).checkpoint, trial.key, trial.seed, trial.budget)
    except CheckpointError as error:
        why = str(error)
    else:
        if checkpoint.epoch == trial.budget:
            return scored_weights(checkpoint.tensors)
        why = f"it has {checkpoint.epoch} of {counted(trial.budget, 'epoch')}"
    if config.evaluator_name != "train":
        raise ConfigError(
            f"{run.root}: trial {trial.number} has no weights ({why}), and the evaluator {config.evaluator_name!r} "
            "trains none, so there is nothing to export"
        )
    tell(f"trial {trial.number}: its checkpoint cannot be used ({why})")
    return None


def trained_again(config: ExperimentConfig, trial: Trial, device: torch.device) -> Weights:
    """Train a trial from its first epoch, which gives what its chain of promotions gave; in a folder that goes."""
    with tempfile.TemporaryDirectory(prefix="nasflow-") as folder:
        run = RunDirectory(Path(folder))
        evaluator: Evaluator = EVALUATORS[config.evaluator_name].make(config, run, device)
        assignment = Assignment.of(trial, (trial.number,))
        try:
            evaluator(assignment, lambda: False)
            return scored_weights(load_checkpoint(run.trial(trial.number).checkpoint, trial.key, trial.seed).tensors)
        except DivergedError as error:
            raise NasflowError(f"trial {trial.number} cannot be trained again: {error}") from error
