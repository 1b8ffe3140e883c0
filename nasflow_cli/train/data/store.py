"""Decoded examples in a file that all workers of a run share: written once, whole, and checked whenever they are read.

Everything here is derived and may be deleted: it comes back. Refuses to trust a file that has not the size that it
should have, or an example that is not what was written, and a disk that has not enough room, before it decodes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import mmap
import os
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.trial import ErrorKind
from nasflow_cli.store.files import (
    FILE_MODE,
    NoRoomError,
    cannot_write,
    make_directory,
    remove,
    remove_leftovers,
    sync_directory,
    write_whole,
)
from nasflow_cli.train.data.load import Cut, Selection, check_augment, decode, splits_of
from nasflow_cli.train.data.values import Inputs, Positions, Splits, blocks_of

FORMAT = 1
"""Raised when the layout of the files changes: what was written before is then made again."""

_NO_RESERVING = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems say that cannot set room aside."""


class DamagedDataError(Exception):
    """Examples in a run's directory are not what was written there."""

    error_kind: ErrorKind = "disk"


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """The examples of a run in their file: `shape` (n, ...), `sums` a CRC-32 each, uint32 (n,).

    Read by position and not through a mapping of the file: what a process has mapped counts as its memory, and a file
    that is cut short under a mapping kills the process. May be used in forked processes, and sent to others.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sums: npt.NDArray[np.uint32]
    identity: tuple[int, int]
    """Device and inode of the file that was opened: another one at its path was made since."""

    @property
    def row_bytes(self) -> int:
        """What one example takes."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """What all examples take."""
        return self.shape[0] * self.row_bytes

    @cached_property
    def _file(self) -> Any:
        return open(self.path, "rb", buffering=0)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def read(self, positions: Positions) -> Inputs:
        """Return the examples at these positions, in their order. Raises DamagedDataError for one that is damaged."""
        examples = np.empty((len(positions), *self.shape[1:]), dtype=self.dtype)
        rows = examples.reshape(len(positions), -1).view(np.uint8)
        try:
            in_a_row = len(positions) > 0 and bool((np.diff(positions) == 1).all())
            runs = [(0, rows.reshape(-1))] if in_a_row else list(enumerate(rows))
            for index, into in runs:
                self._fill(into, int(positions[index]))
        except OSError as error:
            raise DamagedDataError(f"{self.path} cannot be read: {error.strerror}") from error
        for row, position in zip(rows, positions.tolist(), strict=True):
            if _crc(row) != self.sums[position]:
                raise DamagedDataError(f"{self.path}: example {position} is not what was written")
        return examples

    def _fill(self, into: npt.NDArray[np.uint8], position: int) -> None:
        done = 0
        while done < len(into):
            count = os.preadv(self._file.fileno(), [into[done:].data], position * self.row_bytes + done)
            if count == 0:
                raise DamagedDataError(f"{self.path} is cut short")
            done += count

    def mapped(self) -> Inputs:
        """All examples as an array that is not in memory; nothing is checked."""
        return np.memmap(self.path, dtype=self.dtype, mode="r", shape=self.shape)

    def discard(self) -> None:
        """Have the file made again by whoever opens it next, unless that has been done already."""
        if not self.path.exists():
            return
        with _locked(self.path.parent), suppress(FileNotFoundError):
            if self.identity == _identity(os.stat(self.path)):
                os.unlink(_about(self.path.parent))


def open_stored(folder: Path, selection: Selection) -> tuple[Splits, Stored]:
    """Open the file of a selection in `folder`, which is made first where there is none or a damaged one.

    Of several processes one makes it and the others wait. The splits are mapped from the file. Raises NoRoomError when
    the disk is too small, and what decoding raises.
    """
    place, cut = folder / _key(selection), selection.cut
    found = open_whole(place, cut)
    if found is None:
        found = _open_made(place, cut, selection)
    check_augment(selection.config.augment, found[0].input_shape)
    return found


def _open_made(place: Path, cut: Cut, selection: Selection) -> tuple[Splits, Stored]:
    make_directory(place)
    with _locked(place):
        found = open_whole(place, cut)
        if found is None:
            remove_leftovers(place)
            # Its room is wanted; who has it open keeps it.
            remove(place / "examples.bin")
            _make(place, selection)
            found = open_whole(place, cut)
    if found is None:
        raise DamagedDataError(f"{place} is not what was just written; is its disk sound?")
    return found


class _File:
    """Room in a file that has no name yet. Its place on the disk is set aside at once."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._path: Path | None = None
        self._map: mmap.mmap | None = None

    def make(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Inputs:
        """Return an array that lies in a new file; the one before is removed. Raises NoRoomError."""
        before, size = self._path, math.prod(shape) * dtype.itemsize
        _check_room(self.place, size)
        path = self.place / f".nasflow-{secrets.token_hex(8)}.tmp"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            try:
                _reserve(descriptor, size)
                self._map = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise cannot_write(self.place, error) from error
        self._path = path
        if before is not None:
            before.unlink()
        return np.frombuffer(self._map, dtype=dtype).reshape(shape)

    def forget(self) -> None:
        """Let go of the pages; the system writes them when it likes."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def keep(self, path: Path) -> None:
        """Give the file its name, once all of it is on the disk."""
        if self._path is None or self._map is None:
            raise ValueError("there is nothing to keep")
        try:
            self._map.flush()
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(self._path, path)
            sync_directory(path.parent)
        except OSError as error:
            raise cannot_write(path, error) from error
        self._path = None

    def drop(self) -> None:
        """Remove the file if it was not kept."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _make(place: Path, selection: Selection) -> None:
    room = _File(place)
    try:
        splits = decode(selection, room)
        parts = (splits.train.images, splits.validation.images, splits.test.images)
        sums = np.concatenate([_sums(part, room) for part in parts])
        room.keep(place / "examples.bin")
    finally:
        room.drop()
    write_whole(place / "sums.bin", sums.tobytes())
    body = {
        "format": FORMAT,
        "shape": [len(sums), *splits.input_shape],
        "dtype": splits.train.images.dtype.str,
        "mean": splits.mean,
        "std": splits.std,
        "sums": _crc(sums),
    }
    # Last: with it all is there.
    write_whole(_about(place), json.dumps({**body, "crc32": _crc_of(body)}, indent=1) + "\n")


def _sums(examples: Inputs, room: _File) -> npt.NDArray[np.uint32]:
    sums = np.empty(len(examples), dtype="<u4")
    for rows in blocks_of(examples):
        sums[rows] = [_crc(row) for row in examples[rows]]
        room.forget()
    return sums


def open_whole(place: Path, cut: Cut) -> tuple[Splits, Stored] | None:
    """What is in the folder of one file; None where it is missing, damaged or of something else."""
    try:
        about = json.loads(_about(place).read_bytes())
        crc = about.pop("crc32")
        if about["format"] != FORMAT or crc != _crc_of(about):
            return None
        sums = np.frombuffer((place / "sums.bin").read_bytes(), dtype="<u4")
        if _crc(sums) != about["sums"]:
            return None
        path = place / "examples.bin"
        status = path.stat()
        stored = Stored(
            path=path,
            shape=tuple(about["shape"]),
            dtype=np.dtype(about["dtype"]),
            sums=sums,
            identity=_identity(status),
        )
        if status.st_size != stored.shape[0] * stored.row_bytes or stored.shape[0] != len(sums):
            return None
        images = stored.mapped()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if len(images) != sum(cut.sizes) or len(images) != len(cut.labels):
        return None
    return splits_of(cut, images, tuple(about["mean"]), tuple(about["std"])), stored


def _crc(array: npt.NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _crc_of(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _about(place: Path) -> Path:
    return place / "about.json"


def _key(selection: Selection) -> str:
    """A name for what is stored: by the settings, the labels, the splits, the first example, and the files' stamps.

    Not by its path: data that was moved, or copied with its times, keeps its file.
    """
    settings = selection.config.model_dump(mode="json", exclude={"path", "test_path", "augment"})
    digest = hashlib.sha256(json.dumps([settings, selection.sizes], sort_keys=True).encode())
    for part, positions in selection.parts:
        digest.update(part.labels.tobytes())
        digest.update(positions.tobytes())
    _, first = next(iter(selection.source.train.blocks(selection.chosen.train[:1])))
    digest.update(np.ascontiguousarray(first).tobytes())
    stamps = [_stamp(path) for path in (selection.config.path, selection.config.test_path)]
    digest.update(json.dumps(stamps).encode())
    return digest.hexdigest()[:16]


def _stamp(path: str | None) -> list[tuple[str, int, int]]:
    """Name below `path`, size and time of change of each file of a source; nothing for what is no path here."""
    if path is None:
        return []
    root = Path(path).expanduser()
    stamps = []
    for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
        with suppress(OSError):  # a name on the hub, or a file that was removed meanwhile
            status = file.stat()
            if stat.S_ISREG(status.st_mode):
                name = "" if file == root else str(file.relative_to(root))
                stamps.append((name, status.st_size, status.st_mtime_ns))
    return stamps


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Wait until nobody else makes the file of this folder. The kernel drops the lock with its holder."""
    try:
        descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise cannot_write(place / "lock", error) from error
    try:
        with suppress(OSError):  # a file system without locks: then two may make it, each whole
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_room(place: Path, size: int) -> None:
    free = shutil.disk_usage(place).free
    if free < size:
        raise NoRoomError(
            f"decoded, the data takes {size / 2**30:.1f} GiB, and the disk of {place} has {free / 2**30:.1f} GiB free: "
            "make room, keep runs on a larger disk (`runs`, --run-dir), or set data.train_limit and data.test_limit"
        )


def _reserve(descriptor: int, size: int) -> None:
    """Set room aside: a disk that fills up is found out here, and not by a process that dies of a mapped page."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NO_RESERVING:
                raise
        else:
            return
    os.ftruncate(descriptor, size)
