"""Symbolic links inside a run directory: none may lead what nasflow writes or removes to another place.

The run directory itself may lie behind links, as `runs/latest` is one. Refuses to follow or to remove a link.
"""

from __future__ import annotations

import os

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.store.run_directory import RunDirectory


def refuse_links(run: RunDirectory) -> None:
    """Raise RunDirectoryError that names a symbolic link where nasflow would write; changes nothing."""
    for path in (
        *(run.config, run.resolved_config, run.environment, run.journal, run.lock),
        *(run.leaderboard_csv, run.leaderboard_json, run.report, run.export),
        *(run.predictor, run.hpbandster, run.trials, run.final, run.data),
    ):
        if os.path.islink(path):
            raise _refused(str(path))
    for folder in (run.predictor, run.hpbandster, run.trials, run.final, run.data):
        # A trial's folder is looked into as well: there are thousands, so that no file of them costs a call of its own.
        for inside in _folders_in(str(folder)):
            deeper = _folders_in(inside)
            if folder == run.final:  # a folder a training, and in it one a seed
                for seed in deeper:
                    _folders_in(seed)


def _folders_in(folder: str) -> list[str]:
    """The folders in a folder; nothing where there is none, or a file in its place. Raises for a link there."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RunDirectoryError(f"cannot read {folder}: {error.strerror}; mend its permissions") from error
    for entry in found:
        if entry.is_symlink():
            raise _refused(entry.path)
    return [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]


def _refused(path: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} is a symbolic link (to {os.readlink(path)}), and what nasflow writes or removes there would be in "
        "another place; put what it points to in its stead, or remove it. The run directory as a whole may be a link"
    )
