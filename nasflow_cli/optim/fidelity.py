"""Results of several budgets on one scale, so that cheap rungs teach the models of dear ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np


def on_one_scale(scores: Mapping[object, Mapping[int, float | None]]) -> dict[object, float]:
    """Return one value a configuration: its score at its largest budget, lifted to the scale of the largest of all.

    `scores` has, for each configuration, the score at each budget (None: it failed there). What a budget adds is the
    median gain of the configurations that were run at both it and the next one; a configuration that failed at its
    largest budget is worth minus infinity.
    """
    budgets = sorted({budget for by_budget in scores.values() for budget in by_budget})
    lift = dict.fromkeys(budgets, 0.0)
    for lower, higher in reversed(list(itertools.pairwise(budgets))):
        gains = [
            high - low
            for by_budget in scores.values()
            if (low := by_budget.get(lower)) is not None and (high := by_budget.get(higher)) is not None
        ]
        lift[lower] = lift[higher] + (float(np.median(gains)) if gains else 0.0)
    values = {}
    for name, by_budget in scores.items():
        budget = max(by_budget)
        score = by_budget[budget]
        values[name] = -np.inf if score is None else score + lift[budget]
    return values
