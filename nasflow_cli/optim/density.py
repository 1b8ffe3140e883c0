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
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.parameters import Parameter

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

SPREAD = 3.0
"""Samples are drawn with bandwidths so many times as wide; otherwise a search stays where it began to look."""

_NUM_BANDWIDTHS = 9
_TINY = 1e-300
"""Stands for zero where a logarithm is taken."""


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


def ever_inactive(rows: Vector) -> Flags:
    """Which parameters are inactive in some row: shape (num_parameters,)."""
    return np.asarray(np.isnan(rows).any(axis=0), dtype=np.bool_)


class _Kernel(Protocol):
    """The kernel of one parameter around each datum."""

    def log_pairwise(self, column: Vector) -> Vector:
        """Log kernel values of queries (num_queries,), shape (num_data, num_queries)."""
        ...

    def sample(self, column: Vector, rng: np.random.Generator) -> Vector:
        """Draw one value around each given datum; NaN is inactive."""
        ...


class _Levels:
    """The kernel of one parameter with countable choices: a table (num_levels, num_levels) of probabilities.

    Where the parameter is optional, a last level stands for inactive. Categorical: Aitchison and Aitken. Ordinal: a
    choice's weight falls geometrically with its distance (Wang and van Ryzin 1981), normalised over the levels that
    there are.
    """

    def __init__(self, column: Vector, num_choices: int, ordered: bool, optional: bool, floor: float) -> None:
        self.num_choices = num_choices
        self.num_levels = num_choices + optional
        self.codes = self._codes(column)
        counts = np.bincount(self.codes, minlength=self.num_levels)
        top = (self.num_levels - 1) / self.num_levels
        bandwidths = np.linspace(min(floor, top), top, _NUM_BANDWIDTHS)
        tables = np.stack([self._table(bandwidth, ordered) for bandwidth in bandwidths])
        best = int(np.argmax(_leave_one_out(tables, counts)))
        self.table = tables[best]
        self._steps = self._table(min(SPREAD * bandwidths[best], top), ordered).cumsum(1)
        # A parameter that is not optional is never found inactive.
        impossible = np.zeros((self.num_levels, 0 if optional else 1))
        self._logs = np.log(np.maximum(np.concatenate([self.table, impossible], axis=1), _TINY))

    def _codes(self, column: Vector) -> NDArray[np.int64]:
        return np.where(np.isnan(column), self.num_choices, column).astype(np.int64)

    def _table(self, bandwidth: float, ordered: bool) -> Vector:
        k, n = self.num_levels, self.num_choices
        if k == 1:
            return np.ones((1, 1))
        table = np.full((k, k), bandwidth / (k - 1))
        np.fill_diagonal(table, 1.0 - bandwidth)
        if ordered and n > 1:
            places = np.arange(n)
            weights = bandwidth ** np.abs(places[:, None] - places[None, :])
            share = table[:n, :n].sum(1, keepdims=True)
            table[:n, :n] = share * weights / weights.sum(1, keepdims=True)
        return table

    def sample(self, column: Vector, rng: np.random.Generator) -> Vector:
        passed = rng.random((len(column), 1)) >= self._steps[self._codes(column)]
        levels = np.minimum(passed.sum(1), self.num_levels - 1).astype(np.float64)
        return np.where(levels == self.num_choices, np.nan, levels)

    def log_pairwise(self, column: Vector) -> Vector:
        logs: Vector = self._logs[self.codes][:, self._codes(column)]
        return logs


def _leave_one_out(tables: Vector, counts: NDArray[np.int64]) -> Vector:
    """Log likelihood of the data under each table, every datum under the others.

    `tables[b, i, j]` is the probability of level j around level i with bandwidth b.
    """
    others = (counts @ tables - np.diagonal(tables, axis1=1, axis2=2)) / max(int(counts.sum()) - 1, 1)
    likelihoods: Vector = np.log(np.maximum(others, _TINY)) @ counts
    return likelihoods


class _Range:
    """The kernel of one parameter in a range: a normal cut to [0, 1], beside a two-level kernel for inactive."""

    def __init__(self, column: Vector, optional: bool, floor: float) -> None:
        self.data = column
        active = column[~np.isnan(column)]
        spread = float(active.std()) if len(active) > 1 else 0.5
        self.width = float(np.clip(1.06 * spread * max(len(active), 1) ** -0.2, floor, 1.0))
        self.activity = _Levels(column * 0.0, 1, ordered=False, optional=optional, floor=floor)

    def sample(self, column: Vector, rng: np.random.Generator) -> Vector:
        activity = self.activity.sample(column * 0.0, rng)
        place = rng.random(len(column))
        width = min(SPREAD * self.width, 1.0)
        low, high = ndtr(-column / width), ndtr((1.0 - column) / width)
        cut = np.clip(column + width * ndtri(low + place * (high - low)), 0.0, 1.0)
        # Around an inactive datum all places are alike.
        drawn: Vector = activity + np.where(np.isnan(column), place, cut)
        return drawn

    def log_pairwise(self, column: Vector) -> Vector:
        mass = ndtr((1.0 - self.data) / self.width) - ndtr(-self.data / self.width)
        height = np.log(mass * self.width * np.sqrt(2.0 * np.pi))
        z = (column[None, :] - self.data[:, None]) / self.width
        shape = np.where(np.isnan(z), 0.0, -0.5 * z * z - height[:, None])
        logs: Vector = self.activity.log_pairwise(column * 0.0) + shape
        return logs


class Density:
    """A product-kernel density over rows (num_data, num_parameters).

    `optional` tells which parameters may be inactive at all (None: those that are in some row). Densities that are
    compared with each other have to agree on it.
    """

    def __init__(
        self, parameters: Sequence[Parameter], rows: Vector, floor: float, optional: Flags | None = None
    ) -> None:
        self.rows = rows
        inactive = ever_inactive(rows) if optional is None else optional
        self._kernels: list[_Kernel] = [
            _Levels(rows[:, i], len(p.domain.choices), p.domain.kind == "ordinal", bool(inactive[i]), floor)
            if p.domain.choices
            else _Range(rows[:, i], bool(inactive[i]), floor)
            for i, p in enumerate(parameters)
        ]

    def log_density(self, queries: Vector) -> Vector:
        """Log density of each query row, shape (num_queries,)."""
        logs = np.zeros((len(self.rows), len(queries)))
        for i, kernel in enumerate(self._kernels):
            logs += kernel.log_pairwise(queries[:, i])
        top = logs.max(0)
        result: Vector = top + np.log(np.exp(logs - top).mean(0))
        return result

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Draw rows (count, num_parameters) around random data; a parameter drawn as inactive is NaN.

        Drawn more widely than the density is (Falkner et al. 2018, section 3.2).
        """
        centres = self.rows[rng.integers(len(self.rows), size=count)]
        columns = [kernel.sample(centres[:, i], rng) for i, kernel in enumerate(self._kernels)]
        return np.stack(columns, axis=1)
