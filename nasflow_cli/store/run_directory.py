"""Run directories: where each file of a run lies, how a new one is named, and which one a command means.

Refuses a run name that is not a plain file name, and a directory that no search has written to.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.registry import nearest
from nasflow_cli.store.files import cannot_write, make_directory, sync_directory

LATEST = "latest"
"""The link beside the runs that points to the newest of them."""

_RUN_NAME = re.compile(r"-(?P<time>\d{8}T\d{6}Z)(?:-(?P<again>\d+))?$")
_LONGEST_NAME_BYTES = 200
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class TrialDirectory:
    """Where what one trial leaves behind lies."""

    root: Path

    @property
    def log(self) -> Path:
        """What the worker said."""
        return self.root / "log.txt"

    @property
    def metrics(self) -> Path:
        """One JSON line an epoch."""
        return self.root / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The weights that are scored and handed over; a promoted trial goes on from them where there is no stem."""
        return self.root / "checkpoint.safetensors"

    @property
    def stem(self) -> Path:
        """The weights from before the rate was lowered for the trial's end; a promoted trial goes on from them."""
        return self.root / "stem.safetensors"

    @property
    def result(self) -> Path:
        """How a final training ended; a trial of the search has its result in the journal."""
        return self.root / "result.json"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where the files of one run lie. Knows names only: nothing here touches the disk."""

    root: Path

    @property
    def config(self) -> Path:
        """The experiment file as it was given."""
        return self.root / "config.yaml"

    @property
    def resolved_config(self) -> Path:
        """The experiment with every default filled in."""
        return self.root / "config.resolved.yaml"

    @property
    def environment(self) -> Path:
        """Versions, devices and git commit."""
        return self.root / "environment.json"

    @property
    def journal(self) -> Path:
        """The only truth about the run."""
        return self.root / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the one process that may write here."""
        return self.root / "run.lock"

    @property
    def leaderboard_csv(self) -> Path:
        """The ranking, for spreadsheets."""
        return self.root / "leaderboard.csv"

    @property
    def leaderboard_json(self) -> Path:
        """The ranking, for programs."""
        return self.root / "leaderboard.json"

    @property
    def report(self) -> Path:
        """The report, one self-contained file."""
        return self.root / "report.html"

    @property
    def export(self) -> Path:
        """The directory of the exported winner."""
        return self.root / "export"

    @property
    def predictor(self) -> Path:
        """The directory of the predictor's weights."""
        return self.root / "predictor"

    @property
    def hpbandster(self) -> Path:
        """The directory that hpbandster's own analysis tools open."""
        return self.root / "hpbandster"

    @property
    def trials(self) -> Path:
        """The directory with one directory a trial."""
        return self.root / "trials"

    @property
    def final(self) -> Path:
        """The directory of all final trainings."""
        return self.root / "final"

    @property
    def data(self) -> Path:
        """The directory of decoded data, where that does not fit in memory; derived from the data set."""
        return self.root / "data"

    def trial(self, number: int) -> TrialDirectory:
        """Return where trial `number` keeps its files."""
        return TrialDirectory(self.trials / str(number))

    def final_training(self, trial: int, epochs: int, number: int) -> TrialDirectory:
        """Return where the final training of a trial for so many epochs keeps the files of its seed `number`."""
        return TrialDirectory(self.final / f"trial{trial}-epochs{epochs}" / f"seed{number}")


def create_run_directory(runs: Path, name: str, now: datetime) -> RunDirectory:
    """Make `runs/<name>-<UTC time>/` and point `runs/latest` at it.

    `now` knows its time zone. A second run within the same second gets `-2` behind its name, and so on. Raises
    ConfigError for a name that is not a plain file name or a place that cannot be written to, RunDirectoryError
    when the disk is full, ValueError when `now` has no time zone.
    """
    _check_name(name)
    if now.tzinfo is None:
        raise ValueError("the time of a run needs a time zone")
    latest = runs / LATEST
    if os.path.lexists(latest) and not os.path.islink(latest):
        raise ConfigError(
            f"{latest} is in the way: nasflow keeps a link to the newest run there; move it, or choose another place"
        )
    make_directory(runs)
    try:
        root = _make_new(runs, f"{name}-{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}")
        _point(latest, root.name)
        sync_directory(runs)
    except OSError as error:
        raise cannot_write(runs, error) from error
    return RunDirectory(root)


def open_run(run: str | Path | None, runs: Path) -> RunDirectory:
    """Return the run that a RUN argument means: a path, a name inside `runs`, or None for the newest.

    The answer never goes through `runs/latest`, which may move while a command works. Raises ConfigError, with
    the runs that there are, when nothing fits.
    """
    if run is None:
        return _newest(runs)
    candidates = [Path(run), runs / run] if str(run) else []
    for candidate in candidates:
        if _is_run(candidate):
            return RunDirectory(_behind_link(candidate))
    raise ConfigError(f"{_refusal(run, candidates)}; {_known(runs, str(run))}")


def _check_name(name: str) -> None:
    """Raise ConfigError unless `name` can only ever name something directly inside `runs`."""
    if not name:
        reason = "it is empty"
    elif name.startswith("."):
        reason = "it starts with a dot"
    elif "/" in name or "\\" in name:
        reason = "it holds a path separator"
    elif not name.isprintable():
        reason = "it holds a character that cannot be printed"
    elif len(name.encode()) > _LONGEST_NAME_BYTES:
        reason = f"it is longer than {_LONGEST_NAME_BYTES} bytes"
    else:
        return
    raise ConfigError(f"{name!r} cannot name a run: {reason}; use letters, digits, '-' and '_'")


def _make_new(runs: Path, name: str) -> Path:
    """Make the first of `name`, `name-2`, `name-3`, ... that is free; mkdir decides, so two searches never share."""
    for attempt in count(1):
        root = runs / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            root.mkdir()
        except FileExistsError:
            continue
        return root
    raise AssertionError("unreachable: counting has no end")


def _point(latest: Path, target: str) -> None:
    """Move the link in one step; a file system without links does without, as `open_run` does."""
    temporary = latest.with_name(f".nasflow-{secrets.token_hex(8)}.tmp")
    try:
        temporary.symlink_to(target)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return
        raise
    try:
        os.replace(temporary, latest)
    finally:
        temporary.unlink(missing_ok=True)


def _is_run(path: Path) -> bool:
    # os.path answers False where Path would raise (too long, not allowed).
    run = RunDirectory(path)
    return os.path.isfile(run.journal) or os.path.isfile(run.resolved_config)


def _behind_link(path: Path) -> Path:
    """Follow one link, with the answer spelt relative to where the link lies."""
    return path.parent / path.readlink() if path.is_symlink() else path


def _newest(runs: Path) -> RunDirectory:
    if _is_run(runs / LATEST):
        return RunDirectory(_behind_link(runs / LATEST))
    for name in _names(runs):
        if os.path.isfile(RunDirectory(runs / name).journal):
            return RunDirectory(runs / name)
    raise ConfigError(f"no run in {runs}; start one with `nasflow search CONFIG`, or name a run directory")


def _names(runs: Path) -> list[str]:
    """The names of the runs in a directory, newest first. Those that do not carry a time come last."""
    try:
        names = [entry.name for entry in os.scandir(runs) if entry.name != LATEST and entry.is_dir()]
    except OSError:
        return []

    def when(name: str) -> tuple[str, int, str]:
        match = _RUN_NAME.search(name)
        return (match["time"], int(match["again"] or 1), name) if match else ("", 0, name)

    return sorted((name for name in names if _is_run(runs / name)), key=when, reverse=True)


def _refusal(run: str | Path, candidates: list[Path]) -> str:
    for candidate in candidates:
        if os.path.isdir(candidate):
            if not os.access(candidate, os.R_OK | os.X_OK):
                return f"{candidate} may not be read by this user"
            return f"{candidate} is not a run directory (neither journal.jsonl nor config.resolved.yaml is in it)"
        if os.path.lexists(candidate):
            return f"{candidate} is not a directory"
    if not candidates:
        return f"{str(run)!r} is not the name of a run"
    return f"no run {str(run)!r}: looked for {' and '.join(map(str, dict.fromkeys(candidates)))}"


def _known(runs: Path, run: str) -> str:
    names = _names(runs)
    if not names:
        return f"there are no runs in {runs}"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"runs in {runs}: {', '.join(names[:5])}{more}{nearest(run, names)}"
