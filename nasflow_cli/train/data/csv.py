"""`csv`: a table of rows with a column of classes. Numbers stay as they are, text becomes one-hot. Refuses regression.

A text column becomes one feature for each of its values in the training file (at most 32), sorted, named
`column=value`: 1 where the row has that value, else 0; a value that only the test file has is 0 in all of them. A
missing value (an empty field, NA, NaN or ?) is NaN in all features of its column; `load_splits` puts the mean of the
train split there, and nothing else marks that it was missing. Messages name file:line:column, counted in fields.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import ConfigError, DataError
from nasflow_cli.core.registry import DATASETS, nearest
from nasflow_cli.train.data.checks import existing_file, refuse_shared
from nasflow_cli.train.data.delimited import Table
from nasflow_cli.train.data.values import BLOCK_BYTES, Block, Labels, Positions, Source, Undecoded

MAX_VALUES = 32
"""A text column with more values than this is more likely a name than a category."""

_WANTED = "a .csv or .csv.gz file"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class _Seen:
    """What a column of the training file holds: the first of its different values, and of each kind how many."""

    values: set[str] = field(default_factory=set)
    num_numbers: int = 0
    num_texts: int = 0
    first_text: tuple[int, str] = (0, "")

    def add(self, text: str, line: int) -> None:
        """Take notice of one field."""
        is_number = as_number(text) is not None
        if is_number and len(self.values) > MAX_VALUES:  # most fields of most tables
            self.num_numbers += 1
        elif not is_missing(text):
            self.num_numbers += is_number
            if len(self.values) <= MAX_VALUES:
                self.values.add(text)
            if not is_number and not self.num_texts:
                self.first_text = (line, text)
            self.num_texts += not is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """How a column becomes features: as a number (`values` is None), or one feature a value."""

    name: str
    values: tuple[str, ...] | None

    @property
    def features(self) -> tuple[str, ...]:
        return (self.name,) if self.values is None else tuple(f"{self.name}={value}" for value in self.values)

    def encode(self, text: str) -> Sequence[float]:
        """The features of one field; NaN where it is missing. Raises DataError for what is no finite number."""
        if self.values is not None:
            missing = is_missing(text)
            return [math.nan if missing else float(text == value) for value in self.values]
        number = as_number(text)
        if number is not None and abs(number) <= _LARGEST:
            return (number,)
        if is_missing(text):
            return (math.nan,)
        if number is None:
            raise DataError(f"{text!r} is not a number, as all of this column in the training file are")
        raise DataError(f"{text!r} is no finite number of single precision; correct it, or leave it empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """The column of classes. Numbers are compared as numbers, so that 1 and 1.0 are one class."""

    name: str
    numeric: bool
    classes: tuple[str, ...]

    def labels(self, table: Table, raw: _Raw) -> Labels:
        """The label of each row. Raises DataError with the place of a class that is not known."""
        known = {name: label for label, name in enumerate(self.classes)}
        codes = np.frombuffer(raw.codes, dtype=np.int64)
        lookup = np.zeros(len(raw.texts), dtype=np.int64)
        for code, text in enumerate(raw.texts):
            number = as_number(text) if self.numeric else None
            name = text if number is None or not number.is_integer() else str(int(number))
            if name not in known:
                place = table.place(raw.lines[int(np.argmax(codes == code))], table.names.index(self.name))
                raise DataError(f"{place}: {text!r} is not one of the {len(known)} classes of the training file")
            lookup[code] = known[name]
        labels: Labels = lookup[codes]
        return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raw:
    """The target column of a file: its different texts, and of each row which one it has and its line."""

    texts: tuple[str, ...]
    codes: array[int]
    lines: array[int]


@DATASETS.register("csv", columns=True, files=True)
def csv(config: DataConfig) -> Source:
    """Read a table; without `test_path` its test rows are carved out.

    Raises ConfigError for a column that is not there, and DataError for what cannot be used.
    """
    table = _opened(existing_file(config.path, "data.path", _WANTED), config)
    target_name = _target_name(table, config)
    used = [name for name in table.names if name != target_name and name not in config.ignore]
    if not used:
        raise ConfigError(f"data.ignore: no column of {table.path} is left beside the target {target_name!r}")
    raw, seen = _survey(table, target_name, used)
    columns = tuple(_column(table, name, seen[name]) for name in used)
    features = tuple(feature for column in columns for feature in column.features)
    if len(set(features)) < len(features):
        twice = next(feature for feature in features if features.count(feature) > 1)
        raise DataError(f"{table.path}: two columns make a feature {twice!r}; rename one")
    target = _target(table, target_name, raw)
    test = None
    if config.test_path is not None:
        test_table = _opened(existing_file(config.test_path, "data.test_path", _WANTED), config)
        refuse_shared([table.path], [test_table.path])
        _check_same(test_table, table, [*used, target_name], config)
        test_raw, _ = _survey(test_table, target_name, ())
        test = _undecoded(test_table, columns, target, test_raw)
    return Source(train=_undecoded(table, columns, target, raw), test=test, classes=target.classes, features=features)


def _opened(path: Path, config: DataConfig) -> Table:
    """Read the names of the columns. Raises DataError where numbers stand in their place."""
    table = Table.open(path, config.header)
    for column, name in enumerate(table.names):
        if config.header and as_number(name) is not None:
            raise DataError(
                f"{path}:1:{column + 1}: {name!r} stands where the first row should name a column; "
                "if that row is data, set data.header: false"
            )
        if not name and name not in config.ignore:
            raise DataError(
                f"{path}:1:{column + 1}: this column has no name (pandas writes its index so); name it, remove it, or "
                "list '' under data.ignore"
            )
    return table


def _target_name(table: Table, config: DataConfig) -> str:
    for key, names in (("target", [config.target or table.names[-1]]), ("ignore", config.ignore)):
        for name in names:
            if name not in table.names:
                raise ConfigError(
                    f"data.{key}: {table.path} has no column {name!r}{nearest(name, table.names)} "
                    f"(it has {_some(table.names)})"
                )
    target = config.target or table.names[-1]
    if target in config.ignore:
        raise ConfigError(f"data.ignore: {target!r} is the target; set data.target to the column of the classes")
    return target


def _survey(table: Table, target: str, used: Sequence[str]) -> tuple[_Raw, dict[str, _Seen]]:
    """Read a file once. Raises DataError for a row without a class, and for no rows."""
    seen = {name: _Seen() for name in used}
    notes = [(table.names.index(name), note) for name, note in seen.items()]
    at = table.names.index(target)
    texts: dict[str, int] = {}
    codes, lines = array("q"), array("q")
    for line, fields in table.rows():
        if is_missing(fields[at]):
            raise DataError(f"{table.place(line, at)}: this row has no class; give it one, or remove the row")
        codes.append(texts.setdefault(fields[at], len(texts)))
        lines.append(line)
        for column, note in notes:
            note.add(fields[column], line)
    if not lines:
        raise DataError(f"{table.path} has no rows; its first row names the columns {_some(table.names)}")
    return _Raw(texts=tuple(texts), codes=codes, lines=lines), seen


def _column(table: Table, name: str, seen: _Seen) -> _Column:
    """Decide what a column is. Raises DataError for one without values, and for text with too many."""
    if not seen.values:
        raise DataError(f"{table.path}: column {name!r} has no values; list it under data.ignore")
    if not seen.num_texts:
        return _Column(name=name, values=None)
    if len(seen.values) <= MAX_VALUES:
        return _Column(name=name, values=tuple(sorted(seen.values)))
    line, text = seen.first_text
    place = table.place(line, table.names.index(name))
    if seen.num_numbers > seen.num_texts:
        raise DataError(
            f"{place}: {text!r} is not a number, and {seen.num_numbers} others of this column are; correct it, leave "
            "it empty, or list the column under data.ignore"
        )
    raise DataError(
        f"{place}: this column holds text ({text!r}) of more than {MAX_VALUES} different values, each of which would "
        "be a feature; list it under data.ignore if it names the rows, group its values, or write numbers with a point"
    )


def _target(table: Table, name: str, raw: _Raw) -> _Target:
    """Name the classes. Raises DataError for numbers that look like a measured quantity."""
    numbers = [as_number(text) for text in raw.texts]
    if None in numbers:
        return _Target(name=name, numeric=False, classes=tuple(sorted(raw.texts)))
    values = {number for number in numbers if number is not None}
    odd = next((code for code, number in enumerate(numbers) if number is None or not number.is_integer()), None)
    if odd is not None or 2 * len(values) > max(len(raw.codes), 20):
        code = odd or 0
        why = (
            "is not a whole number" if odd is not None else f"is one of {len(values)} numbers in {len(raw.codes)} rows"
        )
        place = table.place(raw.lines[raw.codes.index(code)], table.names.index(name))
        raise DataError(
            f"{place}: the target {raw.texts[code]!r} {why}: regression is not supported; set data.target to a column "
            "of classes, or replace the numbers by classes"
        )
    return _Target(name=name, numeric=True, classes=tuple(str(int(value)) for value in sorted(values)))


def _check_same(test: Table, train: Table, needed: Sequence[str], config: DataConfig) -> None:
    """The test file has the columns of the training file, in any order; ignored ones may be missing."""
    for name in needed:
        if name not in test.names:
            raise DataError(
                f"{test.path} has no column {name!r}{nearest(name, test.names)}, and {train.path} has; "
                f"it has {_some(test.names)}"
            )
    for name in test.names:
        if name not in needed and name not in config.ignore:
            raise DataError(f"{test.path} has a column {name!r} that {train.path} lacks; list it under data.ignore")


def _undecoded(table: Table, columns: Sequence[_Column], target: _Target, raw: _Raw) -> Undecoded:
    def decode(positions: Positions) -> Iterator[Block]:
        return _decode(table, columns, positions, len(raw.lines))

    return Undecoded(labels=target.labels(table, raw), decode=decode)


def _decode(table: Table, columns: Sequence[_Column], positions: Positions, num_rows: int) -> Iterator[Block]:
    """Read through the file once for the rows at `positions`, float32 (m, features)."""
    width = sum(len(column.features) for column in columns)
    where = [(column, table.names.index(column.name)) for column in columns]
    indices = np.full(num_rows, -1, dtype=np.int64)
    indices[positions] = np.arange(len(positions))
    size = max(1, BLOCK_BYTES // (4 * width))
    held, vectors, row = np.empty(size, dtype=np.int64), np.empty((size, width), dtype=np.float32), -1
    filled = 0
    for row, (line, fields) in enumerate(table.rows()):
        if row >= num_rows:
            break
        if indices[row] < 0:
            continue
        vectors[filled], held[filled] = _encoded(table, where, line, fields), indices[row]
        filled += 1
        if filled == size:
            yield held.copy(), vectors.copy()
            filled = 0
    if row != num_rows - 1:
        raise DataError(f"{table.path} was changed while it was read; start again")
    if filled:
        yield held[:filled], vectors[:filled]


def _encoded(table: Table, where: Sequence[tuple[_Column, int]], line: int, fields: Sequence[str]) -> list[float]:
    encoded: list[float] = []
    for column, at in where:
        try:
            encoded += column.encode(fields[at])
        except DataError as error:
            raise DataError(f"{table.place(line, at)}: {error}") from None
    return encoded


def as_number(text: str) -> float | None:
    """The number that a field holds, perhaps infinite; None for text."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def is_missing(text: str) -> bool:
    """Whether a field is empty, or says that its value is not known."""
    return not text or text in {"?", "NA"} or (len(text) == 3 and text.lower() == "nan")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f", and {len(names) - 12} more" if len(names) > 12 else "")
