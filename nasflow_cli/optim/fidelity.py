"""Results of several budgets on one scale, so that cheap rungs teach the models of dear ones."""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left, insort
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray


class OneScale:
    """One value a configuration: its score at its largest budget, lifted to the scale of the largest of all.

    What a budget adds is the median gain of the configurations that were run at both it and the next one; a
    configuration that failed at its largest budget is worth minus infinity. Kept up to date result by result: a new
    one costs no pass over those that are known, unless its budget is new.
    """

    def __init__(self) -> None:
        self.names: list[Hashable] = []
        """The configurations, in the order of their first results."""
        self._numbers: dict[Hashable, int] = {}
        self._scores: list[dict[int, float | None]] = []
        self._budgets: list[int] = []
        self._gains: dict[tuple[int, int], list[float]] = {}
        self._last = array("d")  # each configuration's score at its largest budget
        self._rungs = array("q")  # and the place of that budget

    def __len__(self) -> int:
        return len(self.names)

    def tell(self, name: Hashable, budget: int, score: float | None) -> bool:
        """Add a result, or replace that of this budget; None: it failed. Return whether the configuration is new."""
        is_new = name not in self._numbers
        if is_new:
            self._numbers[name] = len(self.names)
            self.names.append(name)
            self._scores.append({})
            self._last.append(0.0)
            self._rungs.append(0)
        number = self._numbers[name]
        if budget in self._budgets:
            self._count_gains(number, budget, present=False)
            self._scores[number][budget] = score
            self._count_gains(number, budget, present=True)
            self._place(number)
        else:
            self._scores[number][budget] = score
            self._add_budget(budget)
        return is_new

    def values(self) -> NDArray[np.float64]:
        """The value of each configuration, in the order of `names`."""
        lifts = [0.0] * len(self._budgets)
        for place in range(len(self._budgets) - 2, -1, -1):
            lower, higher = self._budgets[place : place + 2]
            lifts[place] = lifts[place + 1] + _median(self._gains[lower, higher])
        if not lifts:
            return np.zeros(0)
        values: NDArray[np.float64] = (
            np.frombuffer(self._last) + np.array(lifts)[np.frombuffer(self._rungs, dtype=np.int64)]
        )
        return values

    def best(self, count: int) -> list[Hashable]:
        """The names of so many configurations, best first; of equals the earlier. None that failed is among them."""
        values = self.values()
        places = np.arange(len(values))
        if 0 < count < len(values):  # the others need not be put in order
            places = np.flatnonzero(values >= np.partition(values, -count)[-count])
        order = places[np.argsort(-values[places], kind="stable")][:count]
        return [self.names[i] for i in order if values[i] > -np.inf]

    def _add_budget(self, budget: int) -> None:
        """A budget that none had before: it may stand between two whose gains were counted."""
        insort(self._budgets, budget)
        self._gains = {pair: [] for pair in itertools.pairwise(self._budgets)}
        for number, scores in enumerate(self._scores):
            for pair in self._gains:
                gain = _gain(scores, *pair)
                if gain is not None:
                    self._gains[pair].append(gain)
            self._place(number)
        for gains in self._gains.values():
            gains.sort()

    def _place(self, number: int) -> None:
        scores = self._scores[number]
        largest = max(scores)
        score = scores[largest]
        self._last[number] = -np.inf if score is None else score
        self._rungs[number] = bisect_left(self._budgets, largest)

    def _count_gains(self, number: int, budget: int, *, present: bool) -> None:
        """Count in, or out, what a configuration gained between a budget and its neighbours."""
        place = bisect_left(self._budgets, budget)
        for pair in itertools.pairwise(self._budgets[max(place - 1, 0) : place + 2]):
            gain = _gain(self._scores[number], *pair)
            if gain is None:
                continue
            gains = self._gains[pair]
            if present:
                insort(gains, gain)
            else:
                del gains[bisect_left(gains, gain)]


def _gain(scores: dict[int, float | None], lower: int, higher: int) -> float | None:
    """What the higher budget added, where there is a score at both."""
    low, high = scores.get(lower), scores.get(higher)
    return None if low is None or high is None else high - low


def _median(rising: list[float]) -> float:
    """The median of sorted numbers; 0 of none."""
    return (rising[(len(rising) - 1) // 2] + rising[len(rising) // 2]) / 2 if rising else 0.0
