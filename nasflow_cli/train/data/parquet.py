"""`parquet`: images in the column layout of Hugging Face data sets. Refuses files with parts missing.

The image column is the one that is a struct with a field `bytes`; the label column is `label`, `labels` or
`fine_label`, of whole numbers or strings. Class names are taken from the Hugging Face metadata when there are some.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.train.data.checks import MAX_BYTES, encode_labels, existing, refuse_shared
from nasflow_cli.train.data.images import decode_images
from nasflow_cli.train.data.values import Block, Positions, Source, Undecoded

_WANTED = "a .parquet file, or a folder with train*.parquet"
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_BATCH_ROWS = 1024
_BATCH_BYTES = 2**32
"""However often a file repeats its largest image in few bytes, the rows that are unpacked at once take no more."""


@DATASETS.register("parquet", files=True)
def parquet(config: DataConfig) -> Source:
    """Read a file, or a folder with train*.parquet and perhaps test*.parquet; `test_path` goes before the latter.

    Raises DataError for what is damaged, incomplete or of another layout.
    """
    path = existing(config.path, "data.path", _WANTED)
    train_shards = _shards(path, "train") or _none_found(path, "train")
    train = _Table.open(train_shards)
    labels, classes = encode_labels(train.labels(), train.class_names(), train.place)
    shards = _shards(path, "test") if path.is_dir() else []
    if config.test_path is not None:
        test_path = existing(config.test_path, "data.test_path", _WANTED.replace("train", "test"))
        shards = _shards(test_path, "test") or _none_found(test_path, "test")
    test = None
    if shards:
        refuse_shared(train_shards, shards)
        table = _Table.open(shards)
        test_labels, _ = encode_labels(table.labels(), classes, table.place)
        test = Undecoded(labels=test_labels, decode=table.decode)
    return Source(train=Undecoded(labels=labels, decode=train.decode), test=test, classes=classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The shards of one split as one table. `starts[i]` is the row at which shard i begins."""

    shards: tuple[Path, ...]
    starts: tuple[int, ...]
    image: str
    label: str
    schema: Any

    @classmethod
    def open(cls, shards: list[Path]) -> _Table:
        """Read the shards' schemas. Raises DataError when one is damaged or has other columns than the first."""
        starts, schemas = [0], []
        for shard in shards:
            with _opened(shard) as file:
                starts.append(starts[-1] + file.metadata.num_rows)
                schemas.append(file.schema_arrow)
        if starts[-1] == 0:
            raise DataError(f"{shards[0]} has no rows")
        if 8 * starts[-1] > MAX_BYTES:  # repeated labels take none of that in the file, and 8 bytes each in memory
            raise DataError(f"{shards[0]}: {starts[-1]} labels take more than {MAX_BYTES >> 30} GiB; give fewer rows")
        image, label = _columns(shards[0], schemas[0])
        for shard, schema in zip(shards, schemas, strict=True):
            if _columns(shard, schema) != (image, label) or schema.field(label).type != schemas[0].field(label).type:
                raise DataError(f"{shard} has other columns than {shards[0]}; keep the parts of one data set together")
        return cls(shards=tuple(shards), starts=tuple(starts), image=image, label=label, schema=schemas[0])

    def place(self, row: int) -> str:
        """Say where a row of the table stands."""
        shard = min(bisect.bisect_right(self.starts, row) - 1, len(self.shards) - 1)
        return f"{self.shards[shard]}, row {row - self.starts[shard]}"

    def labels(self) -> npt.NDArray[Any]:
        """Read the label column: numbers, or objects that are strings. Raises DataError for a label that is null."""
        parts = []
        for shard, start in zip(self.shards, self.starts, strict=False):
            with _opened(shard) as file, _damage_named(shard):
                column = file.read(columns=[self.label]).column(0)
                if column.null_count:
                    row = start + column.is_null().to_pylist().index(True)
                    raise DataError(f"{self.place(row)}: the column {self.label!r} is null; give every image a label")
                parts.append(_to_numpy(column))
        return np.concatenate(parts)

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names that the Hugging Face metadata give the labels, if they do."""
        try:
            about = json.loads((self.schema.metadata or {})[b"huggingface"])
            names = about.get("info", about)["features"][self.label]["names"]
        except (KeyError, TypeError, AttributeError, ValueError):
            return None
        usable = isinstance(names, list) and len(names) > 0 and all(isinstance(name, str) for name in names)
        return tuple(names) if usable else None

    def decode(self, positions: Positions) -> Iterator[Block]:
        """Decode the images at these rows, in the order of the file."""
        return decode_images(self._encoded(positions))

    def _encoded(self, positions: Positions) -> Iterator[tuple[int, str, bytes]]:
        """Read through the file once, batch by batch, up to the last row that is wanted."""
        order = np.argsort(positions, kind="stable")
        rows = positions[order]
        for start, column in self._batches():
            if start > rows[-1]:
                return
            first, last = np.searchsorted(rows, [start, start + len(column)])
            for rank in range(first, last):
                row = int(rows[rank])
                data = column[row - start].as_py()
                if not data:
                    raise DataError(
                        f"{self.place(row)}: {self.image}.bytes is empty; images must be in the file itself"
                    )
                yield int(order[rank]), self.place(row), data

    def _batches(self) -> Iterator[tuple[int, Any]]:
        """Yield (first row, array of encoded images)."""
        for shard, begin in zip(self.shards, self.starts, strict=False):
            start = begin
            with _opened(shard) as file:
                batches = file.iter_batches(_rows_at_once(file.metadata), columns=[self.image])
                while True:
                    with _damage_named(shard):
                        batch = next(batches, None)
                    if batch is None:
                        break
                    yield start, batch.column(0).field("bytes")
                    start += len(batch)


@contextmanager
def _damage_named(shard: Path) -> Iterator[None]:
    """Turn what Arrow raises for a damaged file into a DataError."""
    import pyarrow as pa  # noqa: PLC0415  (slow to import, and most commands read no data)

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names that are not UTF-8
        raise DataError(f"{shard} is not a whole parquet file: {error}; fetch it again") from error


def _rows_at_once(metadata: Any) -> int:
    """How many rows are read at once: as many as could all be the largest image, which is no larger than its group."""
    largest: int = max(
        (metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)), default=1
    )
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, largest)))


def _opened(shard: Path) -> Any:
    import pyarrow.parquet as pq  # noqa: PLC0415

    with _damage_named(shard):
        if shard.stat().st_size == 0:
            raise DataError(f"{shard} is empty (0 bytes); fetch it again")
        return pq.ParquetFile(shard)


def _to_numpy(column: Any) -> npt.NDArray[Any]:
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    values: npt.NDArray[Any] = column.to_numpy()
    return values


def _columns(shard: Path, schema: Any) -> tuple[str, str]:
    """Return the names of the image and of the label column."""
    import pyarrow as pa  # noqa: PLC0415

    listing = ", ".join(f"{field.name} ({field.type})" for field in schema)
    images = [
        field.name for field in schema if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    labels = [name for name in _LABEL_COLUMNS if name in schema.names]
    if len(images) != 1:
        raise DataError(
            f"{shard} has {len(images) or 'no'} image columns (a struct with a field 'bytes'), and needs one; "
            f"its columns are {listing}"
        )
    if not labels:
        raise DataError(f"{shard} has no label column ({' / '.join(_LABEL_COLUMNS)}); its columns are {listing}")
    return images[0], labels[0]


def _shards(path: Path, split: str) -> list[Path]:
    """Return the files of a split in order. Raises DataError when some of a numbered set are missing."""
    if path.is_file():
        return [path]
    shards = sorted(file for file in path.glob(f"{split}*.parquet") if not file.name.startswith("."))
    numbered = [re.fullmatch(r"(.+)-(\d+)-of-(\d+)\.parquet", shard.name) for shard in shards]
    sets = {(match[1], match[3]) for match in numbered if match}
    if sets and (len(sets) > 1 or not all(numbered)):
        raise DataError(
            f"{path} holds more than one set of {split}*.parquet files; keep one, or set the path to a file"
        )
    for stem, total in sets:
        present = {int(match[2]) for match in numbered if match}
        missing = [number for number in range(int(total)) if number not in present]
        if missing:
            raise DataError(f"{path} lacks {stem}-{missing[0]:05d}-of-{total}.parquet; fetch all {int(total)} parts")
    return shards


def _none_found(folder: Path, split: str) -> list[Path]:
    names = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise DataError(f"{folder} holds no {split}*.parquet; it holds {names}")
