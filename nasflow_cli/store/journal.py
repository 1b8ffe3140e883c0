"""The journal: one JSON object a line, appended and synced, the only truth about a run.

The writer cuts a torn last line (one that lost its newline to a crash); readers skip it and never change the file.
Refuses any other line that is not an event, and an event that does not follow from the ones before it: both are
errors that name the line, because to go on would be to search from a history that never was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from nasflow_cli.core.data_record import DataRecord
from nasflow_cli.core.errors import ConfigError, NasflowError, NoValidTrialError, RunDirectoryError
from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.store.files import FILE_MODE, NO_ROOM, cannot_write, sync_directory
from nasflow_cli.store.run_directory import RunDirectory

SCHEMA_VERSION = 1
"""The version of the journal that this nasflow writes. It reads this one and every one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalHeader:
    """The first line of a journal: who began it, for which experiment, and when (seconds since 1970, UTC).

    `data` is what it was begun on, None where scores are looked up and in the journals of before there was a record.
    """

    nasflow_version: str
    config_sha256: str
    started: float
    data: DataRecord | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the event that the journal holds."""
        return {
            "event": "run",
            "schema_version": self.schema_version,
            "nasflow_version": self.nasflow_version,
            "config_sha256": self.config_sha256,
            "started": self.started,
            **({} if self.data is None else {"data": self.data.to_json()}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JournalHeader:
        """Read what `to_json` wrote.

        Raises RunDirectoryError when a newer nasflow wrote it; KeyError, TypeError or ValueError when it is
        something else.
        """
        schema = value["schema_version"]
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise ValueError(f"a schema version is a whole number from 1, not {schema!r}")
        if schema > SCHEMA_VERSION:
            raise RunDirectoryError(
                f"made by a newer nasflow ({value.get('nasflow_version', 'version unknown')}, journal schema {schema}; "
                f"this one reads up to {SCHEMA_VERSION}); upgrade nasflow to open this run"
            )
        version, config = value["nasflow_version"], value["config_sha256"]
        if not isinstance(version, str) or not isinstance(config, str):
            raise TypeError("nasflow_version and config_sha256 are texts")
        data = value.get("data")
        return cls(
            nasflow_version=version,
            config_sha256=config,
            started=float(value["started"]),
            data=None if data is None else DataRecord.from_json(data),
            schema_version=schema,
        )


class Journal:
    """The writing end. Its caller holds the run's lock: two writers would mix their lines."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def resume(cls, path: Path) -> tuple[Journal, list[dict[str, Any]]]:
        """Open for appending, with the events that are there; make a missing file and cut a torn last line.

        Raises RunDirectoryError, with the file untouched, when another line is bad, and ConfigError when the file
        cannot be written to.
        """
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, FILE_MODE)
        except OSError as error:
            raise cannot_write(path, error) from error
        journal = cls(path, descriptor)
        try:
            data = path.read_bytes()
            events = _parse(data, path)
            whole = _whole_lines(data)
            if whole < len(data):
                os.ftruncate(descriptor, whole)
                os.fsync(descriptor)
            sync_directory(path.parent)
        except OSError as error:
            journal.close()
            raise cannot_write(path, error) from error
        except RunDirectoryError:
            journal.close()
            raise
        return journal, events

    def append(self, event: Mapping[str, Any]) -> None:
        """Add one event; when this returns it is on the disk.

        A failed append leaves the file as it was, closes the journal (after a failed fsync the system promises
        nothing about later ones) and raises RunDirectoryError. ValueError when the event has no name, holds a
        number that JSON lacks (NaN, infinity), or the journal is closed; nothing is written then.
        """
        if not isinstance(event.get("event"), str):
            raise ValueError(f"an event has a name under 'event': {event!r}")  # noqa: TRY004
        if self._descriptor is None:
            raise ValueError(f"the journal {self.path} is closed")
        text = json.dumps(event, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        # A lone surrogate (a file name in somebody's error text) becomes \udcxx, which in JSON is that surrogate.
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        length = os.fstat(self._descriptor).st_size
        try:
            _write_all(self._descriptor, line)
            os.fsync(self._descriptor)
        except OSError as error:
            # If even this fails the line stays torn, and the next `resume` cuts it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, length)
                os.fsync(self._descriptor)
            self.close()
            raise _cannot_append(self.path, error) from error

    def close(self) -> None:
        """Close the file. A second time does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of a journal; a torn last line is skipped, a journal not yet begun has none.

    Event i stands in line i + 1. Never changes the file, so it may be read while a search writes. Raises
    RunDirectoryError, naming the line, when another line is bad or the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}; mend its permissions") from error
    return _parse(data, path)


def recorded_data(path: Path, identity: str | None = None) -> DataRecord | None:
    """What the run was begun on; None without a journal or a record. Reads the first line alone, and changes nothing.

    None as well where the run is not of the experiment `identity`. Raises RunDirectoryError as `read_events` does.
    """
    try:
        with path.open("rb") as file:
            first = file.readline()
    except (FileNotFoundError, NotADirectoryError):  # the second is told with more words where a run is opened
        return None
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}; mend its permissions") from error
    header = header_of(_parse(first, path), path)
    is_other = header is not None and identity not in (None, header.config_sha256)
    return None if header is None or is_other else header.data


def header_of(events: Iterable[Mapping[str, Any]], path: Path) -> JournalHeader | None:
    """Return what the first line says, None for a journal without lines. Raises RunDirectoryError."""
    first = next(iter(events), None)
    if first is None:
        return None
    if first.get("event") != "run":
        raise _bad_line(path, 1, f"the first event is 'run', not {first.get('event')!r}")
    try:
        return JournalHeader.from_json(first)
    except RunDirectoryError as error:
        raise RunDirectoryError(f"{path}:1: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _bad_line(path, 1, _reason(error)) from error


def history_of(events: Iterable[Mapping[str, Any]], path: Path) -> History:
    """Fold events into the history that they tell. `path` is for the message.

    Raises RunDirectoryError, naming the line, when an event does not fit: fields missing, a trial out of turn, a
    second result, an unknown name, a journal made by a newer nasflow.
    """
    lines = list(events)
    header_of(lines, path)
    history = History()
    for number, event in enumerate(lines[1:], start=2):
        try:
            _fold(history, event)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _bad_line(path, number, _reason(error)) from error
    return history


def no_score(run: RunDirectory) -> NasflowError:
    """What to raise where the best trial of a run is asked for and none has a score.

    It tells a search that is over (NoValidTrialError) from one that may still come to a score (ConfigError). Raises
    RunDirectoryError for a damaged journal.
    """
    last = read_events(run.journal)[-1:]
    if last and last[0]["event"] == "finished":
        return NoValidTrialError(
            f"{run.root} finished without one valid trial: none has a score; "
            f"`nasflow show {run.root} --trial 0` says why of one"
        )
    return ConfigError(f"{run.root}: no trial has a score yet; `nasflow resume {run.root}` goes on with the search")


def _fold(history: History, event: Mapping[str, Any]) -> None:
    name = event["event"]
    if name == "asked":
        trial = Trial.from_json(event)
        if trial.parent is not None and trial.parent < 0:
            raise ValueError(f"a parent is a trial's number, not {trial.parent}")
        history.asked(trial)
    elif name == "told":
        history.told(Result.from_json(event))
    elif name == "finished":
        event["reason"]
    elif name == "run":
        raise ValueError("a second 'run' event")
    else:
        raise ValueError(f"unknown event {name!r}")


def _whole_lines(data: bytes) -> int:
    """How many bytes from the start are lines with their newline."""
    return data.rfind(b"\n") + 1


def _parse(data: bytes, path: Path) -> list[dict[str, Any]]:
    # Not splitlines: only \n ends a line, so that the numbers in messages are those of every editor.
    lines = data[: _whole_lines(data)].split(b"\n")[:-1]
    return [_event(line, path, number) for number, line in enumerate(lines, start=1)]


def _event(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        # Decoded here: json.loads would take NUL bytes for a sign of UTF-16.
        event = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad_line(path, number, f"not JSON: {error}") from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise _bad_line(path, number, "not an object with a text under 'event'")
    return event


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _bad_line(path: Path, number: int, reason: str) -> RunDirectoryError:
    name = shlex.quote(str(path))
    return RunDirectoryError(
        f"{path}:{number}: the journal is damaged here ({reason}); put back a good copy, or keep only what comes "
        f"before: `cp {name} {name}.damaged && head -n {number - 1} {name}.damaged > {name}`, then `nasflow resume`"
    )


def _cannot_append(path: Path, error: OSError) -> RunDirectoryError:
    what = "the disk is full" if error.errno in NO_ROOM else "the disk refused the write"
    return RunDirectoryError(
        f"cannot append to {path}: {what} ({error.strerror}); what was recorded before is safe: mend this, "
        "then `nasflow resume` goes on"
    )
