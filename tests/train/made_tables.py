"""Small tables, written as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

HEADER = "height,colour,kind"
ROWS = [f"{number}.5,{'red' if number % 3 else 'blue'},{'ab'[number % 2]}" for number in range(20)]


def write_table(path: Path, rows: Sequence[str] = ROWS, header: str | None = HEADER) -> Path:
    lines = [*([] if header is None else [header]), *rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path


def with_row(line: int, text: str) -> list[str]:
    """The twenty rows with one replaced; the header is line 1."""
    return [text if number == line else row for number, row in enumerate(ROWS, start=2)]
