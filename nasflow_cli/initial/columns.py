"""Which column of a table is what: the classes, features, and what should be ignored. Refuses nothing the reader takes.

One pass over the file, in which each column is looked at for what would make the `csv` reader refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasflow_cli.train.data.csv import MAX_VALUES, as_number, is_missing
from nasflow_cli.train.data.delimited import Table

TARGETS = ("target", "class", "label")
"""A column of one of these names (in any case) holds the classes, else the last one does."""

_ROWS_TO_COUNT = 10
"""Fewer rows may count up by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a table are. `ignore` says why of each; `num_missing` counts empty fields of the others."""

    header: bool
    target: str
    ignore: Mapping[str, str]
    num_missing: int
    num_texts: int


@dataclass(slots=True)
class _Seen:
    """What stands in one column."""

    values: set[str] = field(default_factory=set)
    texts: int = 0
    numbers: int = 0
    missing: int = 0
    counts_up: bool = True
    last: float | None = None

    def add(self, text: str) -> None:
        """Take notice of one field."""
        if is_missing(text):
            self.missing += 1
            self.counts_up = False
            return
        number = as_number(text)
        self.texts += number is None
        self.numbers += number is not None
        self.counts_up &= number is not None and self.last in (None, number - 1)
        self.last = number
        if len(self.values) <= MAX_VALUES:
            self.values.add(text)

    def why_ignored(self, name: str) -> str | None:
        """Why a feature should not be made of the column, in words that follow its name."""
        if not name:
            return "has no name, as pandas writes its index"
        if not self.values and self.missing:
            return "has no values"
        if self.texts >= self.numbers and self.texts and len(self.values) > MAX_VALUES:
            return f"is text of more than {MAX_VALUES} different values"
        if self.counts_up and self.numbers >= _ROWS_TO_COUNT:
            return "counts the rows"
        return None


def columns_of(path: Path, target: str | None) -> Columns:
    """Look at a table. `target` is the column of the classes where it is known; whether it is there is not checked.

    Raises DataError for what is not a table.
    """
    header = _has_header(path)
    table = Table.open(path, header)
    seen = [_Seen() for _ in table.names]
    for _, fields in table.rows():
        for note, text in zip(seen, fields, strict=True):
            note.add(text)
    chosen = target if target is not None else _likely_target(table.names)
    notes = {name: note for name, note in zip(table.names, seen, strict=True) if name != chosen}
    ignore = {name: why for name, note in notes.items() if (why := note.why_ignored(name)) is not None}
    used = [note for name, note in notes.items() if name not in ignore]
    return Columns(
        header=header,
        target=chosen,
        ignore=ignore,
        num_missing=sum(note.missing for note in used),
        num_texts=sum(note.texts > 0 for note in used),
    )


def _has_header(path: Path) -> bool:
    """Whether the first row names the columns: no name is a number."""
    _, first = next(Table.open(path, has_header=False).rows())
    return all(as_number(text) is None for text in first)


def _likely_target(names: tuple[str, ...]) -> str:
    named = [name for name in names if name.lower() in TARGETS]
    return named[0] if len(named) == 1 else names[-1]
