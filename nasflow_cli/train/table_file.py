"""Reads columns of a CSV (also .gz) or parquet file as plain values, each with its place. Nothing read can run code.

Refuses files that are damaged, ragged or larger than any table of results, columns that stand twice, and parquet
columns that hold more than single values. What the columns mean is not known here.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nasflow_cli.core.errors import DataError
from nasflow_cli.train.data.checks import existing_file

MAX_BYTES = 2**30
"""Of text, or of unpacked parquet columns, however small they are packed: a few bytes can stand for millions."""

MAX_LINE = 2**20
"""Characters of a line."""

WANTED = "a table of results: a .csv, .csv.gz or .parquet file"

Cell = bool | int | float | str | None
"""What stands in one place of a table; None where nothing does. A CSV has texts alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns that were asked for. `lines` has the line of each row, and is empty where a file has no lines."""

    path: Path
    names: tuple[str, ...]
    cells: Mapping[str, Sequence[Cell]]
    lines: Sequence[int]
    num_rows: int

    def place(self, row: int, column: str | None = None) -> str:
        """Say where a row, or one of its cells, stands: `file:line`, `file:line:column number`."""
        if not self.lines:
            return f"{self.path}, row {row}" + (f", column {column!r}" if column else "")
        where = f"{self.path}:{self.lines[row]}"
        return f"{where}:{self.names.index(column) + 1}: column {column!r}" if column else where


def column_names(path: str) -> tuple[str, ...]:
    """The names of all columns. Raises MissingError when there is no file, DataError when it is no table."""
    file = existing_file(path, "evaluator.path", WANTED)
    if _is_parquet(file):
        with _parquet(file) as opened:
            return tuple(opened.schema_arrow.names)
    with _text(file) as text:
        return _header(file, text)


def read_columns(path: str, wanted: Sequence[str]) -> Columns:
    """Read these columns. Raises MissingError and DataError as `column_names` does, and DataError for a bad row."""
    file = existing_file(path, "evaluator.path", WANTED)
    return _read_parquet(file, wanted) if _is_parquet(file) else _read_csv(file, wanted)


def _is_parquet(path: Path) -> bool:
    name = path.name.lower()
    if not name.endswith((".csv", ".csv.gz", ".parquet")):
        raise DataError(f"{path}: evaluator.path names {WANTED}; this is another kind of file")
    return name.endswith(".parquet")


@contextmanager
def _text(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a CSV file, packed or not."""
    is_packed = path.name.lower().endswith(".gz")
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if is_packed
            else path.open(encoding="utf-8-sig", newline="") as file
        ):
            yield _lines(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}; fetch it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason})") from error
    except csv.Error as error:
        raise DataError(f"{path} is not CSV: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    total = 0
    while line := file.readline(MAX_LINE):
        total += len(line)
        if len(line) == MAX_LINE or total > MAX_BYTES:
            raise DataError(
                f"{path} is too large for a table (lines of {MAX_LINE:,} and {MAX_BYTES:,} characters in all)"
            )
        yield line


def _header(path: Path, text: Iterator[str]) -> tuple[str, ...]:
    names = next(csv.reader(text), None)
    if not names:
        raise DataError(f"{path}:1: there is no header; the first line names the columns, separated by commas")
    return tuple(names)


def _read_csv(path: Path, wanted: Sequence[str]) -> Columns:
    with _text(path) as text:
        reader = csv.reader(text, strict=True)
        names = tuple(next(reader, ()))
        _check_names(path, names, wanted)
        positions = [names.index(name) for name in wanted]
        rows: list[list[str | None]] = []
        lines: list[int] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(row)} values, but the header names {len(names)} columns"
                )
            rows.append([row[position] or None for position in positions])
            lines.append(reader.line_num)
    cells = dict(zip(wanted, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(wanted, ())
    return Columns(path=path, names=names, cells=cells, lines=lines, num_rows=len(rows))


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415  (slow to import, and most commands read no table)
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        yield pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a whole parquet file: {error}; fetch it again") from error


def _read_parquet(path: Path, wanted: Sequence[str]) -> Columns:
    with _parquet(path) as file:
        names = tuple(file.schema_arrow.names)
        _check_names(path, names, wanted)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        # What is declared, and 8 bytes a cell, which repeated values do not have in the file but do in memory.
        declared = sum(group.total_byte_size for group in groups)
        if max(declared, 8 * file.metadata.num_rows * len(wanted)) > MAX_BYTES:
            raise DataError(f"{path} is too large for a table: more than {MAX_BYTES:,} bytes")
        # However often the longest text is repeated, these many rows are no more than the limit.
        largest = max((group.total_byte_size for group in groups), default=1)
        at_once = max(1, min(2**16, MAX_BYTES // max(1, largest)))
        cells = {name: _cells(path, file, name, at_once) for name in wanted}
        num_rows = file.metadata.num_rows
        if any(len(column) != num_rows for column in cells.values()):
            raise DataError(f"{path} promises {num_rows} rows and has others; fetch it again")
    for name, column in cells.items():
        bad = next(
            (row for row, cell in enumerate(column) if not isinstance(cell, (bool, int, float, str, type(None)))), None
        )
        if bad is not None:
            raise DataError(f"{path}, row {bad}, column {name!r}: {column[bad]!r} is not a single number or word")
    return Columns(path=path, names=names, cells=cells, lines=(), num_rows=num_rows)


def _cells(path: Path, file: Any, name: str, at_once: int) -> list[Any]:
    """One column, so many rows at a time. Raises DataError when its texts are too long together."""
    cells: list[Any] = []
    num_bytes = 0
    for batch in file.iter_batches(at_once, columns=[name]):
        column = batch.column(0)
        num_bytes += column.nbytes
        if num_bytes > MAX_BYTES:
            raise DataError(f"{path}, column {name!r} is too large for a table: more than {MAX_BYTES:,} bytes")
        cells += column.to_pylist()
    return cells


def _check_names(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if names.count(name) != 1:
            raise DataError(f"{path}: the column {name!r} stands {names.count(name)} times in the header, and not once")
