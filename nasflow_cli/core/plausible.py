"""Numbers that are valid one by one and cannot be meant together, and those that may be meant and deserve a word.

What a user of a large machine or of a cluster may mean is never refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.counted import counted
from nasflow_cli.core.experiment_file import Mistake

MOST_WORKERS = 1024
"""Workers on one machine: each is a process that imports torch."""

MOST_WORKERS_OF_CLUSTER = 100_000
"""What `executor.workers` may say of a cluster, where it is only a bound."""

MOST_CHILDREN = 512
"""Workers on a device: each takes about half a GiB of its memory before it holds a network."""

MOST_LOADERS = 256
"""Processes of one worker that read its data ahead."""


def implausible(config: ExperimentConfig) -> Iterator[Mistake]:
    """Yield what cannot be meant, each with its place in the document."""
    executor, budget = config.executor, config.search.budget
    here = executor.cluster is None
    most = MOST_WORKERS if here else MOST_WORKERS_OF_CLUSTER
    if executor.workers is not None and executor.workers > most:
        why = "one machine has room for" if here else "a cluster is asked for; null asks for as many as it has room for"
        yield ("executor", "workers"), f"{executor.workers} workers are more than the {most} that {why}"
    if executor.children_per_device > MOST_CHILDREN:
        yield (
            ("executor", "children_per_device"),
            f"no device has room for {executor.children_per_device} processes, each of which takes 0.5 GiB of it for "
            f"itself; at most {MOST_CHILDREN}",
        )
    if executor.loaders is not None and executor.loaders > MOST_LOADERS:
        yield (
            ("executor", "loaders"),
            f"{executor.loaders} processes for each worker are more than there can be work for; at most {MOST_LOADERS}",
        )
    if config.table is None and config.training.warmup_epochs > budget.max:
        yield (
            ("training", "warmup_epochs"),
            f"the learning rate would rise for {config.training.warmup_epochs:g} epochs, and no trial is longer than "
            f"{budget.max} (search.budget): it would never be reached; lower this",
        )


def notes(
    config: ExperimentConfig, *, num_train: int | None, is_streamed: bool, num_workers: int, num_cores: int
) -> tuple[str, ...]:
    """Return a line for each setting that may be meant, though something else is likelier.

    `num_train` is None where no data is trained on; `num_workers` and `num_cores` are those of this machine, 0 workers
    where trials run elsewhere.
    """
    if config.table is not None:
        return ()
    found, training, shortest = [], config.training, config.search.budget.min
    if num_train is not None and training.batch_size > num_train:
        found.append(
            f"training.batch_size: {training.batch_size} is more than the {num_train} training examples, so that an "
            "epoch is a single step"
        )
    if training.warmup_epochs > shortest:
        found.append(
            f"training.warmup_epochs: the learning rate still rises when the shortest trials end (epoch {shortest} of "
            f"{training.warmup_epochs:g})"
        )
    if num_workers > num_cores:
        found.append(f"executor: {num_workers} workers share {counted(num_cores, 'core')}")
    loaders = num_workers * (config.executor.loaders or 0)
    if is_streamed and loaders > num_cores:
        found.append(f"executor.loaders: {loaders} processes in all read data ahead on {num_cores} cores")
    return tuple(found)
