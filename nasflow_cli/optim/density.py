"""The density model of BOHB (Falkner et al. 2018, section 3.2), repaired for categoricals.

hpbandster's own takes its bandwidths from integer codes, where they can exceed (K - 1) / K: there the kernel of
Aitchison and Aitken (1976) turns round and prefers what was not seen. Here the number of levels comes from the space,
every bandwidth lies in [floor, (K - 1) / K], chosen a dimension by leave-one-out likelihood; nothing depends on the
order or the names of a categorical's choices; and a parameter that is inactive in an architecture is a level of its
own instead of a random value. Rows are vectors with one entry a parameter: the position of the choice, or the
place in [0, 1] of a range; NaN where inactive. Vectorised, seeded; it swallows no exception.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.parameters import Parameter

Vector = NDArray[np.float64]

_GRID = np.linspace(0.0, 1.0, 9)


def encode(parameters: Sequence[Parameter], values: Mapping[str, Value]) -> Vector:
    """One row: shape (num_parameters,)."""
    row = np.full(len(parameters), np.nan)
    for i, parameter in enumerate(parameters):
        if parameter.name in values:
            value = values[parameter.name]
            choices = parameter.domain.choices
            row[i] = choices.index(value) if choices else parameter.domain.to_unit(value)
    return row


def decode(parameters: Sequence[Parameter], row: Vector) -> dict[str, Value]:
    """The values of a row; inactive parameters are left out."""
    return {
        p.name: p.domain.choices[int(x)] if p.domain.choices else p.domain.from_unit(float(x))
        for p, x in zip(parameters, row, strict=True)
        if not np.isnan(x)
    }


class _Levels:
    """The kernel of one parameter with countable choices: a table (num_levels, num_levels) of probabilities.

    The last level stands for inactive. Categorical: Aitchison and Aitken. Ordinal: a choice's weight falls
    geometrically with its distance (Wang and van Ryzin 1981), normalised over the levels that there are.
    """

    def __init__(self, column: Vector, num_choices: int, ordered: bool, floor: float) -> None:
        codes = np.where(np.isnan(column), num_choices, column).astype(np.int64)
        self.num_levels = num_choices + bool(np.isnan(column).any())
        counts = np.bincount(codes, minlength=self.num_levels)
        self.codes = codes
        top = (self.num_levels - 1) / self.num_levels
        candidates = floor + _GRID * max(top - floor, 0.0)
        tables = [self._table(bandwidth, ordered, num_choices) for bandwidth in candidates]
        self.table = max(tables, key=lambda table: _leave_one_out(table, counts))

    def _table(self, bandwidth: float, ordered: bool, num_choices: int) -> Vector:
        k = self.num_levels
        if k == 1:
            return np.ones((1, 1))
        table = np.full((k, k), bandwidth / (k - 1))
        np.fill_diagonal(table, 1.0 - bandwidth)
        if ordered and num_choices > 1:
            places = np.arange(num_choices)
            weights = bandwidth ** np.abs(places[:, None] - places[None, :])
            share = table[:num_choices, :num_choices].sum(1, keepdims=True)
            table[:num_choices, :num_choices] = share * weights / weights.sum(1, keepdims=True)
        return table

    def sample(self, code: float, rng: np.random.Generator) -> float:
        level = self.num_levels - 1 if np.isnan(code) else int(code)
        drawn = int(rng.choice(self.num_levels, p=self.table[level]))
        return float(drawn)

    def pairwise(self, column: Vector) -> Vector:
        """Kernel values (num_data, num_queries)."""
        levels = np.where(np.isnan(column), self.num_levels - 1, column).astype(np.int64)
        return self.table[self.codes][:, np.minimum(levels, self.num_levels - 1)]


def _leave_one_out(table: Vector, counts: NDArray[np.int64]) -> float:
    """Mean log likelihood of each datum under the others; `table[i, j]` is the probability of j around i."""
    n = counts.sum()
    others = (counts @ table - np.diag(table)) / max(n - 1, 1)
    with np.errstate(divide="ignore"):
        return float(np.sum(np.where(counts > 0, counts * np.log(np.maximum(others, 1e-300)), 0.0)))


class _Range:
    """The kernel of one parameter in a range: a normal cut to [0, 1], beside a two-level kernel for inactive."""

    def __init__(self, column: Vector, floor: float) -> None:
        self.data = column
        active = column[~np.isnan(column)]
        spread = float(active.std()) if len(active) > 1 else 0.5
        self.width = float(np.clip(1.06 * spread * max(len(active), 1) ** -0.2, floor, 1.0))
        self.activity = _Levels(np.where(np.isnan(column), np.nan, 0.0), 1, False, floor)

    def sample(self, code: float, rng: np.random.Generator) -> float:
        if np.isnan(code):
            return float(rng.random())
        drawn = float(rng.normal(code, self.width))
        while not 0.0 <= drawn <= 1.0:  # at least a third of the mass lies inside, for any centre in [0, 1]
            drawn = float(rng.normal(code, self.width))
        return drawn

    def pairwise(self, column: Vector) -> Vector:
        activity = self.activity.pairwise(np.where(np.isnan(column), np.nan, 0.0))
        z = (column[None, :] - self.data[:, None]) / self.width
        shape = np.exp(-0.5 * z * z) / self.width
        return activity * np.where(np.isnan(z), 1.0, shape)


class Density:
    """A product-kernel density over rows (num_data, num_parameters)."""

    def __init__(self, parameters: Sequence[Parameter], rows: Vector, floor: float) -> None:
        self.rows = rows
        self._kernels: list[Any] = [
            _Levels(rows[:, i], len(p.domain.choices), p.domain.kind == "ordinal", floor)
            if p.domain.choices
            else _Range(rows[:, i], floor)
            for i, p in enumerate(parameters)
        ]

    def log_density(self, queries: Vector) -> Vector:
        """Log density of each query row, shape (num_queries,)."""
        logs = np.zeros((len(self.rows), len(queries)))
        for i, kernel in enumerate(self._kernels):
            logs += np.log(np.maximum(kernel.pairwise(queries[:, i]), 1e-300))
        top = logs.max(0)
        result: Vector = top + np.log(np.exp(logs - top).mean(0))
        return result

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Draw rows (count, num_parameters) around random data; a level `inactive` comes out as NaN."""
        drawn = np.empty((count, len(self._kernels)))
        for row, datum in enumerate(rng.integers(len(self.rows), size=count)):
            for i, kernel in enumerate(self._kernels):
                drawn[row, i] = kernel.sample(self.rows[datum, i], rng)
        return drawn
