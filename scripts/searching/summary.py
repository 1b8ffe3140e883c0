"""From runs to numbers: what was found after how much, means over seeds with bootstrap bands, and their pictures.

The incumbent of a run is what scored highest at the largest budget so far; its test score is read and never searched
for. Regret is the highest score of the table at the largest budget minus the incumbent's. Costs are in epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasflow_cli.draw.axes import Axis
from nasflow_cli.draw.chart import Curve, chart
from searching.problem import Evaluation

RESAMPLES = 1000
NUM_POINTS = 300

SMALLEST = 1e-6
"""Scores that differ by less are drawn as equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The best so far, from look-up `number` (counted from 1) on, when `paid` epochs were paid."""

    number: int
    paid: int
    score: float
    test: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a method: its incumbents in order, and its wall time in seconds, look-ups included."""

    seed: int
    seconds: float
    evaluations: int
    incumbents: tuple[Incumbent, ...]

    def at(self, paid: int) -> Incumbent | None:
        """The incumbent once so many epochs were paid, or None: nothing had a score at the largest budget."""
        return next((each for each in reversed(self.incumbents) if each.paid <= paid), None)

    def found(self, best: float) -> Incumbent | None:
        """The incumbent that has the highest score of the table, if the run found it."""
        last = self.incumbents[-1] if self.incumbents else None
        return last if last is not None and last.score >= best else None


def run_of(seed: int, seconds: float, evaluations: Sequence[Evaluation], largest: int) -> Run:
    """What a run's look-ups come to."""
    incumbents: list[Incumbent] = []
    for number, each in enumerate(evaluations, start=1):
        if each.budget != largest or each.score is None:
            continue
        if not incumbents or each.score > incumbents[-1].score:
            incumbents.append(Incumbent(number=number, paid=each.paid, score=each.score, test=each.test))
    return Run(seed=seed, seconds=seconds, evaluations=len(evaluations), incumbents=tuple(incumbents))


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Where numbers are read: after `places` units of `epochs` each, within `limit` epochs."""

    places: tuple[int, ...]
    epochs: int
    limit: int

    def within(self) -> list[int]:
        """The places that runs reach."""
        return [place for place in self.places if place * self.epochs <= self.limit]


def scores_at(runs: Sequence[Run], paid: int) -> list[float] | None:
    """Every run's score once so many epochs were paid; None where one of them had none yet."""
    found = [run.at(paid) for run in runs]
    return None if None in found else [each.score for each in found if each is not None]


def tests_at(runs: Sequence[Run], paid: int) -> list[float] | None:
    """Every run's test score, likewise; None also where the table has none."""
    found = [each.test if (each := run.at(paid)) is not None else None for run in runs]
    return None if None in found else [each for each in found if each is not None]


def summary(runs: Sequence[Run], best: float, marks: Marks) -> dict[str, Any]:
    """What a results file holds of a method. `regret` and `test` are means; a place that is not reached has None."""
    found = [run.found(best) for run in runs]
    reached = {place: place * marks.epochs for place in marks.within()}
    scores = {place: scores_at(runs, paid) for place, paid in reached.items()}
    tests = {place: tests_at(runs, paid) for place, paid in reached.items()}
    return {
        "evaluations_to_best": [None if each is None else each.number for each in found],
        "epochs_to_best": [None if each is None else each.paid for each in found],
        "regret": {place: best - fmean(known) if (known := scores.get(place)) else None for place in marks.places},
        "test": {place: fmean(known) if (known := tests.get(place)) else None for place in marks.places},
        "test_lowest": {place: min(known) if (known := tests.get(place)) else None for place in marks.places},
        "seconds": fmean(run.seconds for run in runs),
        "incumbents": [[[i.number, i.paid, i.score, i.test] for i in run.incumbents] for run in runs],
    }


def to_best(costs: Sequence[int | None], limit: int) -> tuple[str, str]:
    """Mean and median in words. A run that did not find the best counts as the limit, which is said by `>`."""
    known = [limit if cost is None else cost for cost in costs]
    middle = median(known)
    return (
        f"{'>' if None in costs else ''}{fmean(known):.1f}",
        f"{'>' if middle >= limit and None in costs else ''}{middle:g}",
    )


def heading(marks: Marks) -> str:
    """The line above the rows."""
    columns = [f"regret@{place}" for place in marks.within()] + [f"test@{place}" for place in marks.within()]
    widths = "".join(f" {column:>11}" for column in columns)
    return f"{'method':<18} {'found':>7} {'mean':>8} {'median':>8}{widths} {'seconds':>8}"


def row(name: str, result: dict[str, Any], marks: Marks) -> str:
    """One method on one line."""
    costs = [None if cost is None else cost // marks.epochs for cost in result["epochs_to_best"]]
    mean, middle = to_best(costs, marks.limit // marks.epochs)
    found = f"{sum(cost is not None for cost in costs)}/{len(costs)}"
    numbers = [result[what][place] for what in ("regret", "test") for place in marks.within()]
    written = "".join(f" {'-' if number is None else format(number, '.5f'):>11}" for number in numbers)
    return f"{name:<18} {found:>7} {mean:>8} {middle:>8}{written} {result['seconds']:>8.1f}"


Numbers = NDArray[np.float64]


def band(values: Numbers, seed: int = 0) -> tuple[Numbers, Numbers]:
    """The 95 % bootstrap interval of the mean over runs (first axis), percentile method."""
    rng = np.random.default_rng(seed)
    picked = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[picked].mean(axis=1), [2.5, 97.5], axis=0)
    return low, high


def curve(name: str, runs: Sequence[Run], what: str, best: float, marks: Marks) -> Curve | None:
    """Mean regret or test score against what was paid, from where every run has one; None where there is nothing."""
    places = np.unique(np.geomspace(marks.epochs, marks.limit, NUM_POINTS).astype(np.int64))
    if marks.limit // marks.epochs <= NUM_POINTS:
        places = np.arange(1, marks.limit // marks.epochs + 1) * marks.epochs
    read = tests_at if what == "test" else scores_at
    known = [(int(paid), values) for paid in places if (values := read(runs, int(paid))) is not None]
    if not known:
        return None
    read_off = np.array([values for _, values in known]).T
    drawn = read_off if what == "test" else best - read_off
    low, high = band(drawn)
    return Curve(
        name=name,
        points=tuple((paid / marks.epochs, float(y)) for (paid, _), y in zip(known, drawn.mean(axis=0), strict=True)),
        band=tuple(zip(map(float, low), map(float, high), strict=True)),
    )


def picture(title: str, curves: Sequence[Curve], what: str, unit: str, *, log: bool) -> str:
    """The curves as SVG; regret on a logarithmic scale, where none at all is drawn at the lower edge.

    What came before a fifth of the way is cut off above, so that the rest can be told apart.
    """
    ends = [x for each in curves for x, _ in each.points]
    first, last = min(ends), max(ends)
    seen = [y for each in curves for x, y in each.points if log or x >= last / 5]
    x = Axis(title=f"{unit} (band: 95 % bootstrap interval of the mean)", low=first, high=max(last, first + 1), log=log)
    return chart(title, curves, x, _regrets(seen) if what == "regret" else _scores(seen))


def _regrets(seen: Sequence[float]) -> Axis:
    high = max(*seen, SMALLEST)
    low = min((y for y in seen if y >= high / 1000), default=high)
    return Axis(title="regret", low=low / 1.5, high=high * 1.1, log=True)


def _scores(seen: Sequence[float]) -> Axis:
    low, high = min(seen), max(seen)
    margin = max((high - low) * 0.05, SMALLEST)
    return Axis(title="test", low=low - margin, high=high + margin)
