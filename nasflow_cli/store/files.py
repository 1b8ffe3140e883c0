"""Files written whole: a reader finds the old content or the new, never a part, also after a power cut.

Refuses nothing about what is written; a place that cannot be written to becomes an error that says where and why.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from nasflow_cli.core.errors import ConfigError, NasflowError, RunDirectoryError
from nasflow_cli.core.trial import ErrorKind

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when a disk, a quota or a file-size limit is reached."""

FILE_MODE = 0o664
"""What the umask is taken from. Nobody but the owner and the group may write, whatever the umask."""

COPY_RUN = "make it writable, or copy the run directory to a place that you may write to and name the copy"
"""What to do where a run cannot be written to; it may be moved, and goes on in the new place."""

_NO_DIRECTORY_FSYNC = frozenset({errno.EINVAL, errno.ENOTSUP})
"""What file systems that cannot fsync a directory (some network mounts) answer; they promise nothing more."""


class _DiskError(NasflowError):
    """What the system refused to write. `fact` is the message without what to do about it."""

    error_kind: ErrorKind = "disk"

    def __init__(self, fact: str, advice: str = "") -> None:
        super().__init__(f"{fact}; {advice}" if advice else fact)
        self.fact = fact


class NoRoomError(_DiskError, RunDirectoryError):
    """The disk, a quota or a file-size limit is full."""


class UnwritableError(_DiskError, ConfigError):
    """A place that this process may not write to."""


class UnwritableRunError(_DiskError, RunDirectoryError):
    """The same of a run that is there: no place was chosen wrongly, and another one does not help."""


@contextlib.contextmanager
def writing_in_a_run(advice: str = COPY_RUN) -> Iterator[None]:
    """What cannot be written inside this block is a fault of a run directory, and not of a place that was named."""
    try:
        yield
    except UnwritableError as error:
        raise UnwritableRunError(error.fact, advice) from error


def write_whole(path: Path, data: bytes | str) -> None:
    """Put `data` (text as UTF-8) into `path`, whole or not at all, with the permissions that the umask gives.

    A symbolic link in the place of `path` is replaced and not followed. Raises NoRoomError (a RunDirectoryError) when
    there is no room and UnwritableError (a ConfigError) when the place cannot be written to.
    """
    # A file name that is not UTF-8 reaches us as lone surrogates; shown escaped they cost less than a failed write.
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    # Not tempfile.mkstemp: its 0600 would stay with the file, whatever the user's umask says.
    temporary = path.parent / f".nasflow-{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def leftovers(directory: Path) -> list[Path]:
    """What a killed `write_whole` left in a directory."""
    return list(directory.glob(".nasflow-*.tmp"))


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed `write_whole` left in a directory, in which nobody may be writing now."""
    for path in leftovers(directory):
        with contextlib.suppress(OSError):
            path.unlink()


def open_lines(path: Path) -> TextIO:
    """Open a file to append lines of text, made if it is missing. Raises as `write_whole` does, and for a link."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise cannot_write(path, error) from error
    return open(descriptor, "a", encoding="utf-8")


def make_directory(path: Path) -> None:
    """Make `path` and what is missing above it. Raises as `write_whole` does."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove(path: Path) -> None:
    """Remove a file, or a link and not what it points to; nothing where there is none. Raises as `write_whole` does."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, where its file system can. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> NasflowError:
    """Turn what the system said about writing `path` into the error that the user sees."""
    reason = error.strerror or str(error)
    if error.errno in NO_ROOM:
        return NoRoomError(
            f"cannot write {path}: the disk is full ({reason})",
            "nothing that was written before is lost: make room, then run the command again "
            "(`nasflow resume` goes on with a search)",
        )
    if error.errno == errno.ELOOP:  # opened so that no link is followed
        return RunDirectoryError(f"{path} is a symbolic link, and what is written there would be elsewhere; remove it")
    return UnwritableError(f"cannot write {path}: {reason}", "choose a place that you may write to, or mend this one")
