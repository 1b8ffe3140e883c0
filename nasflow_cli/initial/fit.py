"""Which experiment fits the data: a function of plain values. Reads nothing, looks at no device; costs are passed in.

The rules are those that the experiments under `configs/` were set by hand with: depth by resolution, width by how
many parameters the examples can teach and how long a search may take, epochs by how many examples there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nasflow_cli.core.search_config import BudgetConfig
from nasflow_cli.initial.findings import Findings
from nasflow_cli.nets.cost import Cost
from nasflow_cli.optim.plan import hyperband, planned_brackets

ETA = 3
PARAMS_AN_EXAMPLE = 100
"""Parameters that a training example is taken to teach; the experiments under `configs/` have 110 to 130."""

CORE_FLOPS = 10e9
"""FLOPs a second that a CPU core is taken to train at: 11 to 12 were measured on the two experiments for CPUs."""

PASSES = 3
"""A training step computes about three times what its forward pass does."""

STEP_S = 0.004
"""Seconds that a training step takes on a CPU however small its network is."""

START_S = 15.0
"""Seconds until the first training begins: packages are imported, and each worker reads the data."""

TRIAL_S = 0.5
"""Seconds around each training: proposing, building, writing."""

STEP_BYTES = 4 * 2**30
"""Activations of one training step that are taken to fit beside everything else."""

_FEASIBLE = 0.4
"""Share of the members that the constraints should at least leave."""

_WIDTHS = (8, 12, 16, 24, 32, 48, 64)
_VECTOR_WIDTHS = (16, 32, 64, 128)
_RATES = {16: 0.05, 32: 0.07, 64: 0.1, 128: 0.15, 256: 0.2}
_VECTOR_RATES = {16: "1.5e-3", 32: "2e-3", 64: "3e-3", 128: "4e-3", 256: "5e-3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a search would run on: so many trainings at a time, each on a GPU or on a core."""

    workers: int
    has_gpu: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The shape of a space. `width` is the first stage's smallest; `strides` has an entry a stage, none for vectors."""

    width: int
    stem_stride: int
    strides: tuple[int, ...]
    operations: tuple[str, ...]
    is_deep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a member may cost at most; None: no bound."""

    params: float
    flops: float | None
    activation_bytes: float | None

    def admit(self, cost: Cost) -> bool:
        """Whether a member is within them."""
        return (
            cost.params <= self.params
            and (self.flops is None or cost.flops <= self.flops)
            and (self.activation_bytes is None or cost.activation_bytes <= self.activation_bytes)
        )

    def share(self, sampled: Sequence[Cost]) -> float:
        """The share of sampled members that is within them."""
        return sum(map(self.admit, sampled)) / len(sampled)

    def raised(self, sampled: Sequence[Cost]) -> Bounds:
        """The bounds, raised so that about half of the members are within them."""
        return Bounds(
            params=max(self.params, _quantile(sampled, "params")),
            flops=None if self.flops is None else max(self.flops, _quantile(sampled, "flops")),
            activation_bytes=None
            if self.activation_bytes is None
            else max(self.activation_bytes, _quantile(sampled, "activation_bytes")),
        )

    def tidy(self) -> Bounds:
        """The bounds in numbers of two digits."""
        return replace(
            self,
            params=_tidy(self.params),
            flops=None if self.flops is None else _tidy(self.flops),
            activation_bytes=None if self.activation_bytes is None else _tidy(self.activation_bytes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """An experiment in numbers. `total_flops` is what all trainings take together.

    `seconds` is how long that takes on a machine of so many cores, None where nothing is known about its speed.
    `is_raised` says that even the narrowest networks are above what the data and the time would have allowed.
    """

    layout: Layout
    bounds: Bounds
    trials: int
    min_epochs: int
    max_epochs: int
    batch_size: int
    learning_rate: str
    total_flops: float
    seconds: float | None
    is_raised: bool

    @property
    def budget(self) -> BudgetConfig:
        """The budgets."""
        return BudgetConfig(min=self.min_epochs, max=self.max_epochs, eta=ETA)


Costs = Callable[[Layout], Sequence[Cost]]
"""What sampled members of a space cost, constraints not looked at."""


def fit(found: Findings, machine: Machine, trials: int | None, costs: Costs) -> Fit:
    """Choose an experiment. `trials` None: as many as suit the data."""
    trials = trials or _trials(found, machine)
    budget = budget_within(_epochs(found, machine), trials)
    epochs = sum(plan.num_epochs() for _, plan in planned_brackets(budget, 1, trials))
    batch = _batch_size(found)
    bounds = Bounds(
        params=_max_params(found, machine),
        flops=_max_flops(found, machine, epochs),
        activation_bytes=None if found.is_vectors or found.resolution < 48 else STEP_BYTES / batch,
    )
    layout, sampled = _widest(found, machine, bounds, costs)
    is_raised = bounds.share(sampled) < _FEASIBLE
    bounds = (bounds.raised(sampled) if is_raised else bounds).tidy()
    kept = [each for each in sampled if bounds.admit(each)]
    forward = sum(each.flops for each in kept) / max(len(kept), 1)
    total = PASSES * forward * found.num_train * epochs
    return Fit(
        layout=layout,
        bounds=bounds,
        trials=trials,
        min_epochs=budget.min,
        max_epochs=budget.max,
        batch_size=batch,
        learning_rate=_VECTOR_RATES[batch] if found.is_vectors else f"{_RATES[batch]:g}",
        total_flops=total,
        seconds=None if machine.has_gpu else _seconds(total, found.num_train // batch * epochs, trials, machine),
        is_raised=is_raised,
    )


def _seconds(total_flops: float, steps: int, trials: int, machine: Machine) -> float:
    return START_S + (total_flops / CORE_FLOPS + steps * STEP_S + trials * TRIAL_S) / machine.workers


def _trials(found: Findings, machine: Machine) -> int:
    """Whole rounds of Hyperband's brackets, which take 40 trials with three rungs."""
    if machine.has_gpu and not found.is_vectors:
        return 120
    return 80 if found.is_vectors or found.num_train < 2000 else 40


def _epochs(found: Findings, machine: Machine) -> int:
    """The longest training: little data is seen more often."""
    num = found.num_train
    few = 45 if num < 500 else 27 if num < 1000 else 18
    if found.is_vectors:
        return 27 if 500 <= num < 10_000 else few if num < 200_000 else 9
    if machine.has_gpu:
        return 45 if num < 10_000 else 36 if num < 200_000 else 18
    return few


def budget_within(epochs: int, trials: int) -> BudgetConfig:
    """Budgets up to `epochs`: three rungs, or as many as the first bracket of so few trials can have."""
    budgets = [BudgetConfig(min=max(1, epochs // ETA**steps), max=epochs, eta=ETA) for steps in (2, 1, 0)]
    return next(budget for budget in budgets if hyperband(budget)[0].num_trials <= trials)


def _batch_size(found: Findings) -> int:
    num = found.num_train
    size = 16 if num < 300 else 32 if num < 1000 else 64 if num < 10_000 else 128 if num < 40_000 else 256
    return size if found.is_vectors or found.resolution < 128 else min(size, 64)


def _max_params(found: Findings, machine: Machine) -> float:
    most = 500_000 if found.is_vectors else 10_000_000 if machine.has_gpu else 2_000_000
    return min(max(PARAMS_AN_EXAMPLE * found.num_train, 20_000), most)


def _max_flops(found: Findings, machine: Machine, epochs: int) -> float | None:
    """Of one example's forward pass. On two cores a search of few examples takes minutes, of more up to 20.

    On GPUs the bounds are those of networks in common use at these resolutions.
    """
    if found.is_vectors:
        return None
    usual = 1e8 if found.resolution < 12 else 1.5e9 if found.resolution < 128 else 5e9
    if machine.has_gpu:
        return usual
    seconds = min(max(0.25 * (found.num_train - 700), 90), 1200)
    mean = seconds * 2 * CORE_FLOPS / (PASSES * found.num_train * epochs)
    return min(2 * mean, usual)  # members within a bound cost about half of it


def _widest(found: Findings, machine: Machine, bounds: Bounds, costs: Costs) -> tuple[Layout, Sequence[Cost]]:
    """The widest space of which enough members are within the bounds, else the narrowest; and what members cost."""
    narrowest, *wider = _VECTOR_WIDTHS if found.is_vectors else _WIDTHS
    best = _layout(found, machine, narrowest)
    sampled = costs(best)
    for width in wider:
        layout = _layout(found, machine, width)
        more = costs(layout)
        if bounds.share(more) < _FEASIBLE:
            break
        best, sampled = layout, more
    return best, sampled


def _layout(found: Findings, machine: Machine, width: int) -> Layout:
    if found.is_vectors:
        return Layout(width=width, stem_stride=1, strides=(), operations=("linear",), is_deep=False)
    side = found.resolution
    small = ("conv3x3", "conv5x5", "sep_conv3x3", "sep_conv5x5", "conv1x1", "avg_pool3x3", "skip")
    large = ("conv3x3", "conv1x1", "sep_conv3x3", "sep_conv5x5", "avg_pool3x3", "max_pool3x3", "skip")
    return Layout(
        width=width,
        stem_stride=1 if side < 48 else 2,
        strides=_strides(side),
        operations=small if side < 12 else (*large, "dil_conv3x3") if machine.has_gpu else large,
        is_deep=machine.has_gpu and side >= 12,
    )


def _strides(side: int) -> tuple[int, ...]:
    """Halve until the last stage sees 4 to 8 pixels; behind a stem that halves from 48 pixels on."""
    if side < 12:
        return (1, 2)
    if side < 48:
        return (1, 2, 2)
    if side < 128:
        return (1, 2, 2, 2)
    return (2, 1, 2, 2, 2) if side < 256 else (2, 2, 2, 2, 2)


def _quantile(sampled: Sequence[Cost], name: str) -> float:
    """What three in five members are within."""
    values: list[int] = sorted(getattr(each, name) for each in sampled)
    return float(values[len(values) * 3 // 5])


def _tidy(value: float) -> int:
    """The number, rounded up to two digits."""
    unit: int = 10 ** max(math.floor(math.log10(value)) - 1, 0)
    return math.ceil(value / unit) * unit
