"""`cifar_binary`: the official binary archives of CIFAR-10 and CIFAR-100, packed or extracted.

An archive is read in memory and never extracted, and only the members whose names are known. The layout is that of
https://www.cs.toronto.edu/~kriz/cifar.html: a record is one label byte (CIFAR-100: coarse, then fine) and 3,072 bytes
of 32x32 pixels, channel by channel.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.train.data.checks import encode_labels, existing, refuse
from nasflow_cli.train.data.values import Block, Pixels, Positions, Source, Undecoded, blocks_of

_WANTED = "cifar-10-binary.tar.gz, cifar-100-binary.tar.gz, or the folder extracted from one"
_PIXELS = 3 * 32 * 32
_MAX_MEMBER_BYTES = 2**28
"""The largest official member, CIFAR-100's train.bin, has 154 million bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The files of one of the two data sets. The label that counts is the last byte before the pixels."""

    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.names)


_CIFAR10 = _Layout(
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    names="batches.meta.txt",
    label_bytes=1,
)
_CIFAR100 = _Layout(train=("train.bin",), test="test.bin", names="fine_label_names.txt", label_bytes=2)
_EXTRACTED = ("cifar-10-batches-bin", "cifar-100-binary")
_KNOWN = frozenset(_CIFAR10.files + _CIFAR100.files)


@DATASETS.register("cifar_binary", files=True)
def cifar_binary(config: DataConfig) -> Source:
    """Read CIFAR-10, or CIFAR-100 with its fine labels; both bring their test images.

    Raises DataError when a file is missing, cut short or holds an impossible label.
    """
    refuse(config.test_path, "data.test_path", "the archive brings its own test images")
    path = existing(config.path, "data.path", _WANTED)
    files = _from_folder(path) if path.is_dir() else _from_archive(path)
    layout = _CIFAR100 if _CIFAR100.train[0] in files else _CIFAR10
    missing = [name for name in layout.files if name not in files]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; set data.path to {_WANTED}")
    lines = files[layout.names].decode("utf-8", errors="replace").split("\n")
    classes = tuple(line.strip() for line in lines if line.strip())
    train = [_part(path, name, files[name], layout, classes) for name in layout.train]
    records = np.concatenate(train)
    test = _part(path, layout.test, files[layout.test], layout, classes)
    return Source(train=_undecoded(records, layout), test=_undecoded(test, layout), classes=classes)


def _part(path: Path, name: str, content: bytes, layout: _Layout, classes: tuple[str, ...]) -> Pixels:
    """Return the records of one file, uint8 (n, record), after checking them."""
    record = layout.label_bytes + _PIXELS
    if not content or len(content) % record:
        raise DataError(
            f"{path}: {name} is cut short: its {len(content)} bytes are not whole records of {record}; fetch it again"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    encode_labels(records[:, layout.label_bytes - 1], classes, lambda row: f"{path}: {name}, record {row}")
    return records


def _undecoded(records: Pixels, layout: _Layout) -> Undecoded:
    def decode(positions: Positions) -> Iterator[Block]:
        for rows in blocks_of(records, len(positions)):
            pixels = records[positions[rows], layout.label_bytes :]
            yield np.arange(rows.start, rows.stop), np.ascontiguousarray(pixels).reshape(-1, 3, 32, 32)

    return Undecoded(labels=records[:, layout.label_bytes - 1].astype(np.int64), decode=decode)


def _from_folder(path: Path) -> Mapping[str, bytes]:
    """Read the known files of the folder that was extracted, or of the one that it was extracted into."""
    inside = [path / name for name in _EXTRACTED if (path / name).is_dir()]
    if len(inside) == 1 and not any((path / name).is_file() for name in _KNOWN):
        path = inside[0]
    try:
        return {name: (path / name).read_bytes() for name in _KNOWN if (path / name).is_file()}
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def _from_archive(path: Path) -> Mapping[str, bytes]:
    """Read the known members, wherever in the archive they lie."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if not member.isfile() or name not in _KNOWN:
                    continue
                if name in files or member.size > _MAX_MEMBER_BYTES:
                    raise DataError(f"{path}: {member.name} is there twice, or too large; this is not {_WANTED}")
                content = archive.extractfile(member)
                files[name] = content.read() if content is not None else b""
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole tar archive: {error}; fetch it again") from error
    return files
