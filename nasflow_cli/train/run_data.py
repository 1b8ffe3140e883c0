"""The data of a run that was begun before: the same commit where it lies on a hub, and refused where it has changed."""

from __future__ import annotations

from pathlib import Path

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.data_record import DataRecord
from nasflow_cli.core.experiment_file import load_experiment
from nasflow_cli.core.registry import load_plugins
from nasflow_cli.store.journal import recorded_data
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data import outline, select
from nasflow_cli.train.data.load import Selection


def at_recorded(config: ExperimentConfig, record: DataRecord | None) -> ExperimentConfig:
    """The experiment with its data at the recorded commit; as it is where that lies in a folder here by now."""
    path = None if config.data is None else config.data.path
    if record is None or (path is not None and Path(path).expanduser().is_dir()):
        return config
    return config.at_revision(record.revision)


def experiment_of(run: RunDirectory) -> ExperimentConfig:
    """The experiment of a run, its data at the commit that the run was begun on. Raises ConfigError."""
    return at_recorded(load_experiment(run.resolved_config, (), load_plugins), recorded_data(run.journal))


def selection_of(config: ExperimentConfig, run: RunDirectory) -> Selection:
    """What the run selects of its data. Raises what `select` does, and DataError where the data is not what it was."""
    selection = select(config.data_section)
    record = recorded_data(run.journal)
    if record is not None:
        record.check_same(outline(selection).record)
    return selection
