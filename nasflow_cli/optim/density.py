"""The density model of BOHB (Falkner et al. 2018, section 3.2), repaired for categoricals.

hpbandster's own takes its bandwidths from integer codes, where they can exceed (K - 1) / K: there the kernel of
Aitchison and Aitken (1976) turns round and prefers what was not seen. Here the number of levels comes from the space,
every bandwidth lies in [floor, (K - 1) / K], chosen a dimension by leave-one-out likelihood; nothing depends on the
order or the names of a categorical's choices; and a parameter that is inactive in an architecture is a level of its
own instead of a random value. Rows are vectors with one entry a parameter: the position of the choice, or the
place in [0, 1] of a range; NaN where inactive. Vectorised, seeded; it swallows no exception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
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
    row = [math.nan] * len(parameters)
    for i, parameter in enumerate(parameters):
        if parameter.name in values:
            value = values[parameter.name]
            choices = parameter.domain.choices
            row[i] = choices.index(value) if choices else parameter.domain.to_unit(value)
    return np.array(row, dtype=np.float64)


def decode(parameters: Sequence[Parameter], row: Vector) -> dict[str, Value]:
    """The values of a row; inactive parameters are left out."""
    return {
        p.name: p.domain.choices[int(x)] if p.domain.choices else p.domain.from_unit(x)
        for p, x in zip(parameters, row.tolist(), strict=True)
        if not math.isnan(x)
    }


def ever_inactive(rows: Vector) -> Flags:
    """Which parameters are inactive in some row: shape (num_parameters,)."""
    return np.asarray(np.isnan(rows).any(axis=0), dtype=np.bool_)


class _Kernel(Protocol):
    """The kernels of some parameters around each datum. Rows have an entry for each of these parameters."""

    def add_logs(self, total: Vector, queries: Vector) -> None:
        """Add the log kernel values of queries (num_queries, k) to `total`, shape (num_data, num_queries)."""
        ...

    def sample(self, centres: Vector, rng: np.random.Generator) -> Vector:
        """Draw values around each given datum, shape (count, k); NaN is inactive."""
        ...


class _Levels:
    """The kernels of k parameters with equally many choices: for each a table (num_levels, num_levels).

    Where the parameters are optional, a last level stands for inactive. Categorical: Aitchison and Aitken. Ordinal: a
    choice's weight falls geometrically with its distance (Wang and van Ryzin 1981), normalised over the levels that
    there are.
    """

    def __init__(self, columns: Vector, num_choices: int, ordered: bool, optional: bool, floor: float) -> None:
        self.num_choices = num_choices
        self.num_levels = num_choices + optional
        self.ordered = ordered
        self.codes = self._codes(columns)
        self._top = (self.num_levels - 1) / self.num_levels
        bandwidths = np.linspace(min(floor, self._top), self._top, _NUM_BANDWIDTHS)
        tables = _candidates(num_choices, self.num_levels, ordered, min(floor, self._top))
        places = self.codes + self.num_levels * np.arange(self.codes.shape[1])
        counts = np.bincount(places.ravel(), minlength=self.num_levels * self.codes.shape[1])
        best = np.argmax(_leave_one_out(tables, counts.reshape(-1, self.num_levels)), axis=1)
        self.tables = tables[best]
        self._bandwidths = bandwidths[best]
        # A parameter that is not optional is never found inactive.
        impossible = np.zeros((*self.tables.shape[:2], 0 if optional else 1))
        self._logs = np.log(np.maximum(np.concatenate([self.tables, impossible], axis=2), _TINY))

    def _codes(self, columns: Vector) -> NDArray[np.int64]:
        return np.where(np.isnan(columns), self.num_choices, columns).astype(np.int64)

    def sample(self, centres: Vector, rng: np.random.Generator) -> Vector:
        wide = _tables(
            np.minimum(SPREAD * self._bandwidths, self._top), self.num_choices, self.num_levels, self.ordered
        )
        steps = wide.cumsum(2)[np.arange(len(wide)), self._codes(centres)]
        passed = rng.random((*centres.shape, 1)) >= steps
        levels = np.minimum(passed.sum(2), self.num_levels - 1).astype(np.float64)
        return np.where(levels == self.num_choices, np.nan, levels)

    def add_logs(self, total: Vector, queries: Vector) -> None:
        around = np.take_along_axis(self._logs, self._codes(queries).T[:, None, :], axis=2)
        for codes, logs in zip(self.codes.T, around, strict=True):
            total += logs.take(codes, axis=0)


@lru_cache(maxsize=64)
def _candidates(num_choices: int, num_levels: int, ordered: bool, floor: float) -> Vector:
    """The tables among which data choose: (num_bandwidths, num_levels, num_levels). Not to be changed."""
    return _tables(np.linspace(floor, (num_levels - 1) / num_levels, _NUM_BANDWIDTHS), num_choices, num_levels, ordered)


def _tables(bandwidths: Vector, num_choices: int, num_levels: int, ordered: bool) -> Vector:
    """For each bandwidth the probability of each level (column) around each level (row)."""
    k, n = num_levels, num_choices
    tables = np.ones((len(bandwidths), k, k))
    if k == 1:
        return tables
    tables *= (bandwidths / (k - 1))[:, None, None]
    tables[:, range(k), range(k)] = 1.0 - bandwidths[:, None]
    if ordered and n > 1:
        places = np.arange(n)
        weights = bandwidths[:, None, None] ** np.abs(places[:, None] - places[None, :])
        share = tables[:, :n, :n].sum(2, keepdims=True)
        tables[:, :n, :n] = share * weights / weights.sum(2, keepdims=True)
    return tables


def _leave_one_out(tables: Vector, counts: NDArray[np.int64]) -> Vector:
    """Log likelihood of k parameters' data under each table, every datum under the others: (k, num_tables).

    `counts` (k, num_levels) say how often each level was seen.
    """
    num_others = max(int(counts[0].sum()) - 1, 1)
    others = (counts @ tables - np.diagonal(tables, axis1=1, axis2=2)[:, None, :]) / num_others
    likelihoods: Vector = (np.log(np.maximum(others, _TINY)) * counts).sum(2).T
    return likelihoods


class _Range:
    """The kernel of one parameter in a range: a normal cut to [0, 1], beside a two-level kernel for inactive."""

    def __init__(self, columns: Vector, optional: bool, floor: float) -> None:
        self.data = columns[:, 0]
        active = self.data[~np.isnan(self.data)]
        spread = float(active.std()) if len(active) > 1 else 0.5
        self.width = float(np.clip(1.06 * spread * max(len(active), 1) ** -0.2, floor, 1.0))
        self.activity = _Levels(columns * 0.0, 1, ordered=False, optional=optional, floor=floor)

    def sample(self, centres: Vector, rng: np.random.Generator) -> Vector:
        activity = self.activity.sample(centres * 0.0, rng)
        place = rng.random(centres.shape)
        width = min(SPREAD * self.width, 1.0)
        low, high = ndtr(-centres / width), ndtr((1.0 - centres) / width)
        cut = np.clip(centres + width * ndtri(low + place * (high - low)), 0.0, 1.0)
        # Around an inactive datum all places are alike.
        drawn: Vector = activity + np.where(np.isnan(centres), place, cut)
        return drawn

    def add_logs(self, total: Vector, queries: Vector) -> None:
        mass = ndtr((1.0 - self.data) / self.width) - ndtr(-self.data / self.width)
        height = np.log(mass * self.width * np.sqrt(2.0 * np.pi))
        z = (queries[:, 0] - self.data[:, None]) / self.width
        total += np.where(np.isnan(z), 0.0, -0.5 * z * z - height[:, None])
        self.activity.add_logs(total, queries * 0.0)


class Density:
    """A product-kernel density over rows (num_data, num_parameters).

    `optional` tells which parameters may be inactive at all (None: those that are in some row). Densities that are
    compared with each other have to agree on it.
    """

    def __init__(
        self, parameters: Sequence[Parameter], rows: Vector, floor: float, optional: Flags | None = None
    ) -> None:
        self.rows = rows
        inactive = (ever_inactive(rows) if optional is None else optional).tolist()
        self._kernels: list[tuple[list[int], _Kernel]] = []
        alike: dict[tuple[int, bool, bool], list[int]] = {}
        for i, parameter in enumerate(parameters):
            domain = parameter.domain
            if domain.choices:
                alike.setdefault((len(domain.choices), domain.kind == "ordinal", inactive[i]), []).append(i)
            else:
                self._kernels.append(([i], _Range(rows[:, [i]], inactive[i], floor)))
        # Together, because what a call of NumPy costs is more than what these few numbers do.
        for kind, columns in alike.items():
            self._kernels.append((columns, _Levels(rows[:, columns], *kind, floor)))

    def log_density(self, queries: Vector) -> Vector:
        """Log density of each query row, shape (num_queries,)."""
        logs = np.zeros((len(self.rows), len(queries)))
        for columns, kernel in self._kernels:
            kernel.add_logs(logs, queries[:, columns])
        top = logs.max(0)
        logs -= top
        result: Vector = top + np.log(np.exp(logs, out=logs).mean(0))
        return result

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Draw rows (count, num_parameters) around random data; a parameter drawn as inactive is NaN.

        Drawn more widely than the density is (Falkner et al. 2018, section 3.2).
        """
        centres = self.rows[rng.integers(len(self.rows), size=count)]
        drawn = np.empty_like(centres)
        for columns, kernel in self._kernels:
            drawn[:, columns] = kernel.sample(centres[:, columns], rng)
        return drawn
