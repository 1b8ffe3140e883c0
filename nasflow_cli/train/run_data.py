"""The data of a run that was begun before: the same commit where it lies on a hub, and refused where it has changed."""

from __future__ import annotations

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.experiment_file import load_experiment
from nasflow_cli.core.registry import load_plugins
from nasflow_cli.store.journal import recorded_data
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data import outline, select
from nasflow_cli.train.data.load import Selection


def experiment_of(run: RunDirectory) -> ExperimentConfig:
    """The experiment of a run, its data at the commit that the run was begun on. Raises ConfigError."""
    record = recorded_data(run.journal)
    config = load_experiment(run.resolved_config, (), load_plugins)
    return config.at_revision(None if record is None else record.revision)


def selection_of(config: ExperimentConfig, run: RunDirectory) -> Selection:
    """What the run selects of its data. Raises what `select` does, and DataError where the data is not what it was."""
    selection = select(config.data_section)
    record = recorded_data(run.journal)
    if record is not None:
        record.check_same(outline(selection).record)
    return selection
