"""The learning rate over a training, as pure functions of the recipe. Knows no optimiser and no files.

A rung is an end and a beginning at once: its score should say what a whole training would give, and a promoted child
goes on from it. `constant` needs no end: its averaged weights are scored. `cosine` takes every rung for a part of the
longest training. `decay` lowers the rate for the rung's end alone, and a longer training goes on from where it was
still high (warm-up-stable-decay; Hu et al. 2024, arXiv 2404.06395, section 4; Hägele et al. 2024, arXiv 2405.18392).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nasflow_cli.core.config import TrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The rate of one training of `budget` epochs; the longest of its kind has `horizon`, which is no less."""

    recipe: TrainingConfig
    budget: int
    horizon: int

    @property
    def stem(self) -> int:
        """The epochs that a longer training has in common with this one; after them the rate is lowered for its end."""
        if self.recipe.schedule != "decay":
            return self.budget
        # At least one epoch: a stem of none would be fresh weights, and nothing to go on from.
        return max(1, self.budget - round(self.recipe.decay_fraction * self.budget))

    @property
    def leaves_stem(self) -> bool:
        """Whether longer trainings need what this one was before the rate was lowered."""
        return self.stem < self.budget < self.horizon

    def rate(self, at: float) -> float:
        """The learning rate after so many epochs; a step is asked for by its middle, so that none has a rate of 0."""
        return self.recipe.learning_rate * self._warm(at) * self._shape(at)

    def _warm(self, at: float) -> float:
        return min(1.0, at / self.recipe.warmup_epochs) if self.recipe.warmup_epochs else 1.0

    def _shape(self, at: float) -> float:
        if self.recipe.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * at / self.horizon))
        if at <= self.stem:
            return 1.0
        return (self.budget - at) / (self.budget - self.stem)


Rate = Callable[[float], float]
"""Epochs that were trained, and parts of one, to the learning rate."""
