"""Every random number of a run comes from its seed, a number and a purpose, so that nothing has to be restored."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Purpose(IntEnum):
    """What a stream of random numbers is for. Numbers are never reused: they are part of every run's meaning."""

    TRAINING = 1
    PROPOSAL = 2
    PREDICTOR = 3
    CHOICE = 4
    WEIGHTS = 5
    ORDER = 6
    AUGMENT = 7
    DROPOUT = 8
    FEASIBLE = 9
    SURVEY = 10
    FINAL = 11
    MIXUP = 12
    DESIGN = 20


def generator(seed: int, number: int, purpose: Purpose) -> np.random.Generator:
    """A generator that depends on its arguments alone."""
    import numpy as np  # noqa: PLC0415  (readers of a run import core without NumPy)

    return np.random.default_rng(np.random.SeedSequence([seed, number, int(purpose)]))


def derived_seed(seed: int, number: int, purpose: Purpose) -> int:
    """A 32-bit seed that depends on its arguments alone."""
    import numpy as np  # noqa: PLC0415

    return int(np.random.SeedSequence([seed, number, int(purpose)]).generate_state(1)[0])
