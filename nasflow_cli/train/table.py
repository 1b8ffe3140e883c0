"""The evaluator `table`: a trial's score is looked up in a table of results; nothing is trained.

Words are compared as they stand, after the mapping that the user gives; numbers as numbers. Refuses a table in which
one architecture has two rows, or a score is no number. An architecture without a row, and a row without a score, fail
the trial.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.evaluator_config import COST_METRIC, TEST_METRIC, TableConfig
from nasflow_cli.core.registry import EVALUATORS
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.protocol import Assignment, Report
from nasflow_cli.train.table_file import Cell, Columns, read_columns

Key = tuple[int | float | str | None, ...]
"""What identifies an architecture: the cells of its columns, numbers as numbers."""

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


class NotInTableError(DataError):
    """The table has no row for an architecture, or no score in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of results, indexed by architecture. `numbers` has each column of numbers; None where nothing stands."""

    config: TableConfig
    columns: Columns
    rows: Mapping[Key, int]
    numbers: Mapping[str, Sequence[float | None]]

    @classmethod
    def read(cls, config: TableConfig) -> Table:
        """Read the columns that the experiment names. Raises MissingError, or DataError that says where."""
        measured = [*config.scores.values(), *config.cost.values(), *config.metrics.values()]
        measured += [config.test] if config.test is not None else []
        identity = list(config.architecture.values())
        columns = read_columns(config.path, list(dict.fromkeys(identity + measured)))
        rows: dict[Key, int] = {}
        for row, cells in enumerate(zip(*(columns.cells[name] for name in identity), strict=True)):
            first = rows.setdefault(tuple(canonical(cell) for cell in cells), row)
            if first != row:
                raise DataError(
                    f"{columns.place(row)}: this architecture has a row already, {columns.place(first)}; keep one of "
                    "them, or name the column that tells them apart in evaluator.architecture"
                )
        numbers = {name: [_number(columns, name, row) for row in range(columns.num_rows)] for name in set(measured)}
        return cls(config=config, columns=columns, rows=rows, numbers=numbers)

    def key(self, settings: Mapping[str, Value]) -> Key:
        """What the columns hold for an architecture with these settings (`SearchSpace.settings`)."""
        words = self.config.values
        return tuple(
            canonical(words.get(_text(settings[name]), settings[name]) if name in settings else self.config.absent)
            for name in self.config.architecture
        )

    def row(self, settings: Mapping[str, Value]) -> int:
        """The row of an architecture. Raises NotInTableError."""
        key = self.key(settings)
        row = self.rows.get(key)
        if row is None:
            raise NotInTableError(f"{self.columns.path} has no row with {self.described(key)}")
        return row

    def described(self, key: Key) -> str:
        """A key in words, with the names of the columns."""
        columns = self.config.architecture.values()
        return ", ".join(f"{name}={'' if cell is None else cell}" for name, cell in zip(columns, key, strict=True))

    def score(self, row: int, budget: int) -> float:
        """The scaled score at a budget. Raises NotInTableError where nothing stands in its place."""
        column = self.config.scores[budget]
        number = self.numbers[column][row]
        if number is None:
            raise NotInTableError(f"{self.columns.place(row, column)}: there is no score for budget {budget}")
        return number * self.config.scale

    def metrics(self, row: int, budget: int) -> dict[str, float]:
        """What the row says beside the score: its metrics, its test score, and its cost at a budget in seconds."""
        found = {name: self.numbers[column][row] for name, column in self.config.metrics.items()}
        if self.config.test is not None:
            test = self.numbers[self.config.test][row]
            found[TEST_METRIC] = None if test is None else test * self.config.scale
        larger = min((known for known in self.config.cost if known >= budget), default=None)
        if larger is not None:
            seconds = self.numbers[self.config.cost[larger]][row]
            found[COST_METRIC] = None if seconds is None else seconds * budget / larger
        return {name: value for name, value in found.items() if value is not None}


def canonical(cell: Cell) -> int | float | str | None:
    """A cell as it is compared: what reads as a number is one, true and false are words."""
    if isinstance(cell, bool):
        return _text(cell)
    if isinstance(cell, str):
        if _WHOLE.fullmatch(cell):
            return int(cell)
        return float(cell) if _NUMBER.fullmatch(cell) else cell
    return None if isinstance(cell, float) and math.isnan(cell) else cell  # pandas writes NaN where nothing stands


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(columns: Columns, name: str, row: int) -> float | None:
    cell = columns.cells[name][row]
    if cell is None:
        return None
    try:
        if not isinstance(cell, bool):
            return float(cell)
    except (ValueError, OverflowError):
        pass
    raise DataError(f"{columns.place(row, name)}: {str(cell)[:40]!r} is not a number")


class TableEvaluator:
    """Looks trials up. Reads the table at the first of them."""

    def __init__(self, config: ExperimentConfig, table: TableConfig) -> None:
        self.config = table
        self.space = SearchSpace(config.space, operation_facts())
        self._table: Table | None = None

    def __call__(self, assignment: Assignment, should_stop: Callable[[], bool]) -> Report:
        """Look one trial up; it pays for its whole budget, since each score is of a training of its own."""
        if self._table is None:
            self._table = Table.read(self.config)
        row = self._table.row(self.space.settings(assignment.architecture))
        metrics = self._counts(assignment) | self._table.metrics(row, assignment.budget)
        return Report(score=self._table.score(row, assignment.budget), epochs=assignment.budget, metrics=metrics)

    def _counts(self, assignment: Assignment) -> dict[str, float]:
        shape, classes = self.config.input_shape, self.config.classes
        if shape is None or classes is None:
            return {}
        about = cost(self.space.graph(assignment.architecture), shape, classes)
        return {"params": float(about.params), "flops": float(about.flops)}


@EVALUATORS.register("table", data=False)
def table(config: ExperimentConfig, run: RunDirectory, device: torch.device) -> TableEvaluator:
    """Look a child's score up in a table. Raises ValueError when the experiment names none."""
    if config.table is None:
        raise ValueError("the experiment has no table")
    return TableEvaluator(config, config.table)
