"""One writer per run directory, also after `kill -9`: the kernel holds the lock and drops it with its holder.

What cannot be written while it is held is in the run directory, and raises RunDirectoryError.

The file is kept; what it says is only for people and for readers, who never lock or change anything. Refuses a second
writer at once instead of waiting. A child forked without exec keeps a killed holder's lock: start children by spawn.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.store.files import (
    COPY_RUN,
    FILE_MODE,
    UnwritableError,
    UnwritableRunError,
    cannot_write,
    writing_in_a_run,
)

_YEAR_10000 = 253_402_300_800.0
_HELD = frozenset({errno.EAGAIN, errno.EACCES})


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """The process that writes to a run directory, since when (seconds since 1970, UTC).

    `work` says on what (`progress.final_work`); None for a search.
    """

    host: str
    pid: int
    started: float
    work: str | None = None

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.started, timezone.utc)
        return f"process {self.pid} on {self.host} since {since:%Y-%m-%d %H:%M:%S} UTC"


class RunLock:
    """Held inside a `with` block. Not for reuse by two threads."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time, work: str | None = None) -> None:
        self.path = path
        self.work = work
        self._clock = clock
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        """Take the lock. Raises RunDirectoryError when another holds it or the file is unwritable."""
        with writing_in_a_run():
            return self._taken()

    def _taken(self) -> RunLock:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise _cannot_lock(self.path, error) from error
        me = LockHolder(host=socket.gethostname(), pid=os.getpid(), started=self._clock(), work=self.work)
        try:
            # In place: a new file under this name would be a second lock beside the first.
            os.ftruncate(descriptor, 0)
            os.pwrite(
                descriptor,
                json.dumps({name: value for name, value in asdict(me).items() if value is not None}).encode() + b"\n",
                0,
            )
        except OSError as error:
            os.close(descriptor)
            raise cannot_write(self.path, error) from error
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.ftruncate(descriptor, 0)
                # Said outright: closing alone leaves the lock with a child that has not come to its exec yet.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                os.close(descriptor)
        if isinstance(error, UnwritableError):
            raise UnwritableRunError(error.fact, COPY_RUN) from error


def holder(path: Path) -> LockHolder | None:
    """Return who holds the lock, None when nobody does; changes nothing.

    A holder on this host counts while its process lives; of one on another host only the file can tell, so it
    counts until it is released.
    """
    named = _named_in(path)
    if named is None or (named.host == socket.gethostname() and not _is_alive(named.pid)):
        return None
    return named


def _named_in(path: Path) -> LockHolder | None:
    """Who the file names. None when it is missing, empty (released) or caught half-written."""
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
        host, pid, started, work = value["host"], value["pid"], float(value["started"]), value.get("work")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    # A pid below 1 would ask about process groups; a time past the year 9999 could not be shown.
    if not isinstance(host, str) or not isinstance(pid, int) or pid < 1 or not 0 <= started < _YEAR_10000:
        return None
    return LockHolder(host=host, pid=pid, started=started, work=work if isinstance(work, str) else None)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _cannot_lock(path: Path, error: OSError) -> RunDirectoryError:
    if error.errno in _HELD:
        return RunDirectoryError(
            f"{path.parent} is locked by {_named_in(path) or 'another process'}; "
            "only one nasflow may write to a run directory: wait for it or stop it"
        )
    return RunDirectoryError(
        f"cannot lock {path}: {error.strerror}; its file system may lack locks: keep run directories on another"
    )
