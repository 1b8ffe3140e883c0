"""One of the two BOHBs: hpbandster's generator with its model replaced. Searches one half of an architecture.

It keeps hpbandster's interface (`new_result`, `get_config`), so that hpbandster's machinery can drive it, and adds
`propose`, which takes its randomness as an argument.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hpbandster.core.base_config_generator import base_config_generator
from hpbandster.optimizers.config_generators.bohb import BOHB

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.config import DensityConfig
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.optim.configspace import config_space, sample
from nasflow_cli.optim.density import Density, Flags, Vector, decode, encode, ever_inactive
from nasflow_cli.optim.fidelity import on_one_scale

RANDOM_SHARE = 0.2
"""Share of what hpbandster is handed that no model chooses: without it, early luck locks a search in."""

_INACTIVE = -1.0
"""Stands for NaN, which equals nothing, where rows are compared."""


class HalfBOHB(BOHB):  # type: ignore[misc]
    """Proposes settings of one half from the densities of good and bad results.

    hpbandster's constructor is not called: it reads interfaces that ConfigSpace has dropped, and sets up the model
    that is replaced here.
    """

    def __init__(self, parameters: tuple[Parameter, ...], config: DensityConfig, seed: int) -> None:
        base_config_generator.__init__(self)
        self.parameters = parameters
        self.config = config
        self.configspace = config_space(parameters, seed)
        self._seed = seed
        self._rows: dict[Any, Vector] = {}
        self._scores: dict[object, dict[int, float | None]] = {}
        self._densities: tuple[Density, Density] | None = None
        self._stale = False
        self._num_handed_out = 0

    @property
    def num_results(self) -> int:
        """Configurations that it has a result of."""
        return len(self._rows)

    def new_result(self, job: Any, update_model: bool = True) -> None:
        """Learn the result of an hpbandster job; the half's values are the job's `config`."""
        score = None if job.result is None else -float(job.result["loss"])
        if score is not None and not math.isfinite(score):
            score = None  # as in hpbandster's own books: a loss that is no number is a crash
        self._rows[job.id] = encode(self.parameters, job.kwargs["config"])
        self._scores.setdefault(job.id, {})[int(job.kwargs["budget"])] = score
        self._stale = True

    def get_config(self, budget: float) -> tuple[dict[str, Value], dict[str, Any]]:
        """One proposal, as hpbandster asks for it; seeded by the number of those that it asked for before."""
        rng = generator(self._seed, self._num_handed_out, Purpose.PROPOSAL)
        self._num_handed_out += 1
        is_random = rng.random() < RANDOM_SHARE
        proposed = [] if is_random else self.propose(1, rng)
        if not proposed:
            return sample(self.configspace, rng), {"model_based_pick": False}
        row = self._without_ruled_out(encode(self.parameters, proposed[0])[None, :])[0]
        return decode(self.parameters, row), {"model_based_pick": True}

    def propose(self, count: int, rng: np.random.Generator) -> list[dict[str, Value]]:
        """The `count` draws of the good density with the best ratio of good to bad; none while there is no model.

        Every parameter has a value: what was drawn as inactive is judged as such, and then given one from the prior,
        in case that it is active beside the other half.
        """
        self._refit()
        if self._densities is None or count < 1:
            return []
        draws = self._without_ruled_out(self._densities[0].sample(max(self.config.samples, 4 * count), rng))
        draws = np.unique(np.nan_to_num(draws, nan=_INACTIVE), axis=0)
        draws[draws == _INACTIVE] = np.nan
        best = draws[np.argsort(-self.log_ratios(draws), kind="stable")[:count]]
        for i, parameter in enumerate(self.parameters):
            choices = parameter.domain.choices
            prior = rng.integers(len(choices), size=len(best)) if choices else rng.random(len(best))
            best[:, i] = np.where(np.isnan(best[:, i]), prior, best[:, i])
        return [decode(self.parameters, row) for row in best]

    def log_ratios(self, rows: Vector) -> Vector:
        """Log ratio of good to bad density of each row of `density.encode`; zero while there is no model."""
        self._refit()
        if self._densities is None:
            return np.zeros(len(rows))
        good, bad = self._densities
        return good.log_density(rows) - bad.log_density(rows)

    def _without_ruled_out(self, rows: Vector) -> Vector:
        """Rows with parameters inactive whose parent is inactive or has a value at which they do not exist.

        A parent is declared before its children.
        """
        rows = rows.copy()
        columns = {parameter.name: i for i, parameter in enumerate(self.parameters)}
        for i, parameter in enumerate(self.parameters):
            for name, values in parameter.needs:
                parent = columns[name]
                rows[~_is_one_of(self.parameters[parent], rows[:, parent], values), i] = np.nan
        return rows

    def _refit(self) -> None:
        if not self._stale:
            return
        self._stale = False
        values = on_one_scale(self._scores)
        needed = self.config.min_points or len(self.parameters) + 1
        if len(values) < needed + 2 or not self.parameters:
            return
        names = sorted(values, key=lambda name: (-values[name], name))
        rows = np.stack([self._rows[name] for name in names])
        num_good = max(int(np.ceil(self.config.top_fraction * len(names))), min(needed, len(names) // 3), 2)
        floor = self.config.bandwidth_floor
        optional = ever_inactive(rows)
        self._densities = (
            Density(self.parameters, rows[:num_good], floor, optional),
            Density(self.parameters, rows[num_good:], floor, optional),
        )


def _is_one_of(parameter: Parameter, column: Vector, values: tuple[Value, ...]) -> Flags:
    """Whether each entry of a parameter's column stands for one of the values; an inactive one does not."""
    domain = parameter.domain
    if domain.choices:
        return np.isin(column, [domain.choices.index(value) for value in values if value in domain])
    return np.array([not np.isnan(x) and domain.from_unit(float(x)) in values for x in column], dtype=np.bool_)
