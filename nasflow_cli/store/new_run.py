"""How a run directory begins, and the configuration that it is known by and goes on with.

Refuses a folder that holds other things.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.store.files import leftovers, make_directory, write_whole
from nasflow_cli.store.run_directory import RunDirectory, create_run_directory


def make_run(
    config: ExperimentConfig, source: Path, run_directory: Path | None, environment: Mapping[str, Any]
) -> RunDirectory:
    """Make a run directory for an experiment that was read from `source`, or take the named one.

    Raises ConfigError when that is a folder of other things.
    """
    if run_directory is None:
        run = create_run_directory(Path(config.runs), config.name, datetime.now(timezone.utc))
    else:
        run = RunDirectory(run_directory)
        if run.journal.exists():
            return run
        known = run.resolved_config.exists()
        if not known and run_directory.exists() and not (run_directory.is_dir() and _is_empty(run_directory)):
            raise ConfigError(
                f"{run_directory} is no run directory, and not an empty folder; name another with --run-dir"
            )
        make_directory(run_directory)
    # First what a run is known by, so that the same command goes on wherever this is killed.
    write_whole(run.resolved_config, _absolute(config).to_yaml())
    write_whole(run.config, source.read_bytes())
    write_whole(run.environment, json.dumps(environment, indent=2) + "\n")
    return run


def keep_config(run: RunDirectory, config: ExperimentConfig) -> None:
    """Write the configuration that a run goes on with where it is another than before: the next `resume` reads it."""
    text = _absolute(config).to_yaml()
    if not run.resolved_config.exists() or run.resolved_config.read_bytes() != text.encode("utf-8", "backslashreplace"):
        write_whole(run.resolved_config, text)


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder but what a killed write left there."""
    return not {entry.name for entry in folder.iterdir()} - {entry.name for entry in leftovers(folder)}


def _absolute(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment with its data paths made absolute, so that it can be resumed from anywhere."""
    return config.with_paths(lambda path: str(Path(path).expanduser().absolute()))
