"""Symbolic links inside a run directory: none may lead what nasflow writes or removes to another place.

The run directory itself may lie behind links, as `runs/latest` is one. Refuses to follow or to remove a link.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.store.run_directory import RunDirectory


def refuse_links(run: RunDirectory) -> None:
    """Raise RunDirectoryError that names a symbolic link where nasflow would write; changes nothing."""
    for path in _written(run):
        if os.path.islink(path):
            raise RunDirectoryError(
                f"{path} is a symbolic link (to {os.readlink(path)}), and what nasflow writes or removes there would "
                "be in another place; put what it points to in its stead, or remove it. The run directory as a whole "
                "may be a link"
            )


def _written(run: RunDirectory) -> Iterator[Path]:
    yield from (run.config, run.resolved_config, run.environment, run.journal, run.lock)
    yield from (run.leaderboard_csv, run.leaderboard_json, run.report, run.export, run.predictor, run.hpbandster)
    yield run.trials
    for folder in (run.predictor, run.hpbandster):
        yield from _inside(folder)
    for trial in _inside(run.trials):
        yield trial
        yield from _inside(trial)


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where there is none, or a link or a file in its place."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return []
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries]
    except OSError as error:
        raise RunDirectoryError(f"cannot read {folder}: {error.strerror}; mend its permissions") from error
