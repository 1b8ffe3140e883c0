"""Delimited text (comma, semicolon or tab; packed with gzip or not) to rows of fields. Knows nothing of what they mean.

Refuses what is not UTF-8 text, rows that are not as long as the header, and lines and files larger than any table. Each
message begins with file:line, or file:line:column with the column counted in fields from 1.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nasflow_cli.core.errors import DataError
from nasflow_cli.train.data.checks import MAX_BYTES

DELIMITERS = (",", ";", "\t")
MAX_LINE_BYTES = 2**24
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A file whose header has been read. `names` are unique, one a column."""

    path: Path
    delimiter: str
    names: tuple[str, ...]
    has_header: bool

    @classmethod
    def open(cls, path: Path, has_header: bool) -> Table:
        """Read the first row; without a header the columns are called column1, column2, ...

        The delimiter is the one of `,` `;` and tab that cuts the first row into most fields. Raises DataError for a
        file without a row, with one column only, or with two columns of one name.
        """
        # Not strict: a quoted name is well formed for one delimiter only.
        fields = {each: len(next(_records(path, each, strict=False), (1, []))[1]) for each in DELIMITERS}
        delimiter = max(DELIMITERS, key=lambda each: fields[each])  # the first of equals
        line, first = next(_records(path, delimiter), (1, []))
        if not first:
            raise DataError(f"{path} holds only blank lines; give a table of rows")
        if len(first) == 1:
            raise DataError(
                f"{path}:{line}: there is one column only, and a table needs at least a feature and a target; "
                "separate columns with commas, semicolons or tabs"
            )
        names = first if has_header else [f"column{number}" for number in range(1, len(first) + 1)]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise DataError(f"{path}:{line}: there are two columns {twice[0]!r}; rename or remove one")
        return cls(path=path, delimiter=delimiter, names=tuple(names), has_header=has_header)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (line, fields) of each row, blanks around the fields removed. Raises DataError for a ragged one."""
        records = _records(self.path, self.delimiter)
        if self.has_header:
            next(records, None)
        width = len(self.names)
        for line, fields in records:
            if len(fields) != width:
                raise DataError(
                    f"{self.path}:{line}: this row has {len(fields)} fields and the first row {width}; "
                    "complete it, or put a field that holds the delimiter in double quotes"
                )
            yield line, fields

    def place(self, line: int, column: int) -> str:
        """Where a field stands: file:line:column and the column's name. `column` counts from 0."""
        return f"{self.path}:{line}:{column + 1}: column {self.names[column]!r}"


def _records(path: Path, delimiter: str, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, stripped fields) of each record that is not blank."""
    with _opened(path) as file:
        reader = csv.reader(_lines(path, file), delimiter=delimiter, strict=strict, skipinitialspace=True)
        while True:
            line = reader.line_num + 1
            try:
                fields: Sequence[str] | None = next(reader, None)
            except csv.Error as error:
                raise DataError(
                    f"{path}:{line}: {error}; a double quote that is not closed, or not doubled inside a quoted field, "
                    "is the usual cause"
                ) from error
            if fields is None:
                return
            stripped = [field.strip() for field in fields]
            if stripped not in ([], [""]):
                yield line, stripped


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a file, unpacked. What gzip and the system raise for a damaged one becomes a DataError."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            if not packed:
                yield file
                return
            with gzip.open(file) as unpacked:
                yield unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read to its end: {error}; fetch it again") from error


def _lines(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[str]:
    """Yield decoded lines; a byte order mark is dropped."""
    total, number = 0, 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        total += len(line)
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise DataError(f"{path}:{number}: this line is longer than {MAX_LINE_BYTES >> 20} MiB; is this a table?")
        if total > MAX_BYTES:
            raise DataError(f"{path}: unpacked, this is more than {MAX_BYTES >> 30} GiB; give fewer rows")
        if b"\0" in line:
            raise DataError(f"{path}:{number}: this is not text (it holds bytes of 0); save it as UTF-8 CSV")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: this is not UTF-8 text ({error.reason}); save it as UTF-8") from error
