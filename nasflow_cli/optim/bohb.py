"""One of the two BOHBs: hpbandster's generator with its model replaced. Searches one half of an architecture.

It keeps hpbandster's interface (`new_result`, `get_config`), so that hpbandster's machinery can drive it, and adds
`propose`, which takes its randomness as an argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hpbandster.core.base_config_generator import base_config_generator
from hpbandster.optimizers.config_generators.bohb import BOHB

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.config import DensityConfig
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.optim.configspace import config_space, sample
from nasflow_cli.optim.density import Density, Vector, decode, encode
from nasflow_cli.optim.fidelity import on_one_scale


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

    @property
    def num_results(self) -> int:
        """Configurations that it has a result of."""
        return len(self._rows)

    def new_result(self, job: Any, update_model: bool = True) -> None:
        """Learn the result of an hpbandster job; the half's values are the job's `config`."""
        score = None if job.result is None else -float(job.result["loss"])
        self._rows[job.id] = encode(self.parameters, job.kwargs["config"])
        self._scores.setdefault(job.id, {})[int(job.kwargs["budget"])] = score
        self._stale = True

    def get_config(self, budget: float) -> tuple[dict[str, Value], dict[str, Any]]:
        """One proposal, as hpbandster asks for it; seeded by the number of results so far."""
        rng = generator(self._seed, self.num_results, Purpose.PROPOSAL)
        proposed = self.propose(1, rng)
        if proposed:
            return proposed[0], {"model_based_pick": True}
        return sample(self.configspace, rng), {"model_based_pick": False}

    def random(self, rng: np.random.Generator) -> dict[str, Value]:
        """A uniform draw from the half's ConfigSpace."""
        return sample(self.configspace, rng)

    def propose(self, count: int, rng: np.random.Generator) -> list[dict[str, Value]]:
        """The `count` draws of the good density with the best ratio of good to bad; none while there is no model."""
        self._refit()
        if self._densities is None:
            return []
        good, bad = self._densities
        draws = good.sample(max(self.config.samples, 4 * count), rng)
        # A level drawn as "inactive" has no value to propose: take it from the prior.
        for i, parameter in enumerate(self.parameters):
            choices = parameter.domain.choices
            missing = draws[:, i] >= len(choices) if choices else np.isnan(draws[:, i])
            uniform = rng.integers(len(choices), size=len(draws)) if choices else rng.random(len(draws))
            draws[:, i] = np.where(missing, uniform, draws[:, i])
        draws = np.unique(draws, axis=0)
        ratio = good.log_density(draws) - bad.log_density(draws)
        best = np.argsort(-ratio, kind="stable")[:count]
        return [decode(self.parameters, draws[i]) for i in best]

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
        self._densities = (
            Density(self.parameters, rows[:num_good], floor),
            Density(self.parameters, rows[num_good:], floor),
        )
