"""The leaderboard: a history as a ranking, one row per network. Knows nothing that the journal does not say.

Refuses to rank a failed trial, and to put a score at a small budget before one at a larger, or a single score before a
mean of several seeds: it says less.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nasflow_cli.core.architecture import Half
from nasflow_cli.core.trial import History, Result, Trial, TrialPhase, standings
from nasflow_cli.store.files import write_whole
from nasflow_cli.store.run_directory import RunDirectory

SCHEMA_VERSION = 1

_COMPACT = json.JSONEncoder(separators=(",", ":"))
_STRICT = json.JSONEncoder(allow_nan=False)

MAPPINGS = ("structure", "operators", "metrics")
"""Fields of a row that hold names and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network at the largest budget (epochs) at which it has a score (higher is better).

    `score` is the mean over `seeds` trainings, `spread` their standard deviation (None for one); `trial` is the first
    of them, the search's own, and all else is said of it. `flops` are for one forward pass, two per multiply-add.
    `seconds` is the wall time of this trial and of all that it went on from. `metrics` are the plain numbers that the
    trial has beside its score.
    """

    rank: int
    trial: int
    key: str
    score: float
    spread: float | None
    seeds: int
    budget: int
    params: int | None
    flops: int | None
    seconds: float
    phase: TrialPhase
    structure: Half
    operators: Half
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the row as a plain value, fields in the order in which they are declared."""
        value = {name: getattr(self, name) for name in FIELDS}
        return {**value, **{name: dict(value[name]) for name in MAPPINGS}}


FIELDS = tuple(field.name for field in fields(Row))


def leaderboard_rows(history: History) -> list[Row]:
    """Rank every network that has a score, as `standings` does. The first row is `history.leader()`."""
    return [
        Row(
            rank=rank,
            trial=standing.trial.number,
            key=standing.trial.key,
            score=standing.mean,
            spread=standing.spread,
            seeds=len(standing.scores),
            budget=standing.trial.budget,
            params=_count(standing.result, "params"),
            flops=_count(standing.result, "flops"),
            seconds=_paid_seconds(history, standing.trial),
            phase=standing.trial.phase,
            structure=standing.trial.architecture.structure,
            operators=standing.trial.architecture.operators,
            metrics=dict(standing.result.metrics),
        )
        for rank, standing in enumerate(standings(history.scored()), start=1)
    ]


def leaderboard_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the document that `--json` prints and `leaderboard.json` holds."""
    return {"schema_version": SCHEMA_VERSION, "rows": [row.to_json() for row in rows]}


def leaderboard_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a header; halves and metrics are JSON cells, an unknown count is an empty cell."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(FIELDS)
    for row in rows:
        cells = row.to_json()
        cells.update((name, _COMPACT.encode(cells[name])) for name in MAPPINGS)
        table.writerow(cells.values())
    return text.getvalue()


def write_leaderboard(run: RunDirectory, history: History) -> None:
    """Write leaderboard.csv and leaderboard.json. Raises ConfigError or RunDirectoryError as `write_whole` does."""
    rows = leaderboard_rows(history)
    write_whole(run.leaderboard_csv, leaderboard_csv(rows))
    # A line a row: json writes an indented document with code in Python, which took half the time of all this.
    lines = ",\n".join(_STRICT.encode(row.to_json()) for row in rows)
    write_whole(run.leaderboard_json, f'{{"schema_version": {SCHEMA_VERSION}, "rows": [\n{lines}\n]}}\n')


def _count(result: Result, name: str) -> int | None:
    value = result.metrics.get(name)
    return None if value is None else int(value)


def _paid_seconds(history: History, trial: Trial) -> float:
    """Wall time of a trial and of every trial whose training it continues, in seconds."""
    paid, at = 0.0, trial
    while True:
        if at.number in history.results:
            paid += history.results[at.number].seconds
        if at.parent is None:
            return paid
        at = history.trials[at.parent]
