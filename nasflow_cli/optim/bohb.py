"""One of the two BOHBs: hpbandster's generator with its model replaced. Searches one half of an architecture.

It keeps hpbandster's interface (`new_result`, `get_config`), so that hpbandster's machinery can drive it, and adds
`propose`, which takes its randomness as an argument.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
from hpbandster.core.base_config_generator import base_config_generator
from hpbandster.optimizers.config_generators.bohb import BOHB
from numpy.typing import NDArray

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.search_config import DensityConfig
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.optim.configspace import config_space, sample
from nasflow_cli.optim.density import Density, Flags, Vector, decode, encode
from nasflow_cli.optim.fidelity import OneScale

RANDOM_SHARE = 0.2
"""Share of what hpbandster is handed that no model chooses: without it, early luck locks a search in."""

MAX_ROWS = 500
"""Results behind each of the two densities, evenly spaced by rank where there are more: what a proposal costs does not
grow with the history, and what the densities look like hardly depends on the rest."""

_INACTIVE = -1
"""Stands for NaN, which equals nothing, where rows are compared; the last entry of what is looked up by it."""


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
        self._rows = array("d")  # one after the other, in the order of the scale
        self._scale = OneScale()
        self._ever_inactive = np.zeros(len(parameters), dtype=np.bool_)
        self._conditions = _conditions(parameters)
        self._densities: tuple[Density, Density] | None = None
        self._stale = False
        self._num_handed_out = 0

    @property
    def num_results(self) -> int:
        """Configurations that it has a result of."""
        return len(self._scale)

    def new_result(self, job: Any, update_model: bool = True) -> None:
        """Learn the result of an hpbandster job; the half's values are the job's `config`."""
        score = None if job.result is None else -float(job.result["loss"])
        if score is not None and not math.isfinite(score):
            score = None  # as in hpbandster's own books: a loss that is no number is a crash
        if self._scale.tell(job.id, int(job.kwargs["budget"]), score):
            row = encode(self.parameters, job.kwargs["config"])
            self._rows.frombytes(row.tobytes())
            self._ever_inactive |= np.isnan(row)
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
        comparable = np.nan_to_num(draws, nan=_INACTIVE)
        # Not sorted: of draws with equal ratios the earlier is taken, whatever its choices are called.
        first: dict[bytes, int] = {}
        for i, row in enumerate(comparable):
            first.setdefault(row.tobytes(), i)
        draws = draws[list(first.values())]
        best = draws[np.argsort(-self.log_ratios(draws), kind="stable")[:count]]
        num_choices = [len(parameter.domain.choices) for parameter in self.parameters]
        places = rng.random(best.shape)
        prior = np.where(num_choices, np.floor(places * num_choices), places)
        return [decode(self.parameters, row) for row in np.where(np.isnan(best), prior, best)]

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
        if not self._conditions:
            return rows
        rows = rows.copy()
        codes = np.nan_to_num(rows, nan=_INACTIVE).astype(np.int64)
        for child, parent, allowed in self._conditions:
            if isinstance(allowed, tuple):
                ruled_out = ~_is_one_of(self.parameters[parent], rows[:, parent], allowed)
            else:
                ruled_out = ~allowed[codes[:, parent]]
            rows[ruled_out, child] = np.nan
            codes[ruled_out, child] = _INACTIVE
        return rows

    def _refit(self) -> None:
        if not self._stale:
            return
        self._stale = False
        num_rows, needed = len(self._scale), self.config.min_points or len(self.parameters) + 1
        if num_rows < needed + 2 or not self.parameters:
            return
        order = np.argsort(-self._scale.values(), kind="stable")
        num_good = max(int(np.ceil(self.config.top_fraction * num_rows)), min(needed, num_rows // 3), 2)
        rows = np.frombuffer(self._rows).reshape(num_rows, -1)
        good, bad = (
            Density(self.parameters, rows[_thinned(some)], self.config.bandwidth_floor, self._ever_inactive)
            for some in (order[:num_good], order[num_good:])
        )
        self._densities = good, bad


def _thinned(ranking: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most MAX_ROWS of a ranking, evenly spaced from its best to its worst."""
    if len(ranking) <= MAX_ROWS:
        return ranking
    return ranking[np.linspace(0, len(ranking) - 1, MAX_ROWS).round().astype(np.int64)]


_Allowed = Flags | tuple[Value, ...]


def _conditions(parameters: tuple[Parameter, ...]) -> list[tuple[int, int, _Allowed]]:
    """Child, parent and at what of the parent the child exists: flags a choice and a last one for inactive.

    Of a parent in a range, the values themselves.
    """
    columns = {parameter.name: i for i, parameter in enumerate(parameters)}
    found: list[tuple[int, int, _Allowed]] = []
    for child, parameter in enumerate(parameters):
        for name, values in parameter.needs:
            domain = parameters[columns[name]].domain
            flags = np.array([choice in values for choice in domain.choices] + [False], dtype=np.bool_)
            found.append((child, columns[name], flags if domain.choices else values))
    return found


def _is_one_of(parameter: Parameter, column: Vector, values: tuple[Value, ...]) -> Flags:
    """Whether each entry of the column of a range stands for one of the values; an inactive one does not."""
    domain = parameter.domain
    return np.array([not math.isnan(x) and domain.from_unit(x) in values for x in column.tolist()], dtype=np.bool_)
