"""The sides of the comparison: our engine without and with its predictor, and hpbandster's own BOHB.

Each is played on histories with made-up scores, which cost nothing to look up. A history is filled as fast as the side
can, then a number of asks are timed. Refuses nothing: what cannot be measured, because a space is used up, is left out.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from searching.peers import package, quietly
from threadpoolctl import threadpool_limits

from nasflow_cli import assemble
from nasflow_cli.assemble import Experiment
from nasflow_cli.core.architecture import Value
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.domain import Domain
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.space import part
from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.optim.alternating import Alternating
from nasflow_cli.optim.configspace import config_space, plain
from nasflow_cli.optim.plan import hyperband

Clock = Callable[[], float]

NEVER = 1_000_000_000
"""So many results that no further fit is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured; plain, so that it can be sent to another process. `asks` are timed at each of `results`.

    `clock` is "wall", or "cpu": the time that this process had the processor, for a machine that others use.
    """

    config: Path
    overrides: tuple[str, ...]
    results: tuple[int, ...]
    asks: int
    clock: str = "wall"

    def experiment(self) -> Experiment:
        """Read and check the experiment. Raises NasflowError as `nasflow check` does."""
        return assemble.check(assemble.load(self.config, list(self.overrides)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Seconds of an ask that filled a new slot, and of following its result."""

    ask: float
    follow: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured at a number of results.

    `mean` is seconds a result, promotions included. `refit` is the first ask, which waits for the predictor's fit, and
    `replay` following the whole history anew, as a resumed search does; in seconds, None where there is none.
    `memory` is the most that the process had resident so far, in MiB. `modelled` is the share of stock proposals that
    its model made.
    """

    results: int
    timed: tuple[Timed, ...]
    mean: float
    memory: float
    refit: float | None = None
    replay: float | None = None
    modelled: float | None = None


def made_up_score(values: Mapping[str, Value], budget: float) -> float:
    """A score that each value has its part in, and the budget a small one. Higher is better."""
    worth = math.fsum(_worth(name, value) for name, value in values.items())
    return worth / max(len(values), 1) + 0.01 * math.log(budget)


@lru_cache(maxsize=100_000)
def _worth(name: str, value: Value) -> float:
    return int.from_bytes(hashlib.sha256(f"{name}={value}".encode()).digest()[:4], "big") / 2**32


def peak_memory_mib() -> float:
    """The most memory that this process had resident."""
    status = Path("/proc/self/status")
    if status.exists():  # the other one counts what the process was before it was this program
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


# Our engine -------------------------------------------------------------------------------------------------------


def ours(setting: Setting, clock: Clock) -> Iterator[Row]:
    """Our engine without its predictor."""
    experiment, history = setting.experiment(), History()
    engine = _engine(experiment, setting, fitted_on=None)
    for results in setting.results:
        if not _filled(engine, history, results):
            return
        timed, mean = _asked(engine, history, setting.asks, clock)
        if len(timed) < setting.asks:
            return
        yield Row(results=results, timed=timed, mean=mean, memory=peak_memory_mib())


def predictor(setting: Setting, clock: Clock) -> Iterator[Row]:
    """Our engine with its predictor, which ranks a pool for every new slot; it is fitted before the asks are timed.

    The history comes from the engine without it, so that nothing else is waited for.
    """
    experiment, history = setting.experiment(), History()
    filling = _engine(experiment, setting, fitted_on=None)
    for results in setting.results:
        if not _filled(filling, history, results):
            return
        engine = _engine(experiment, setting, fitted_on=results)
        times = [clock()]
        engine.wanted_checkpoints(history)
        times.append(clock())
        _told(engine, history)
        times.append(clock())
        timed, mean = _asked(engine, history, setting.asks, clock)
        if len(timed) < setting.asks:
            return
        replay, refit = np.diff(times).tolist()
        yield Row(results=results, timed=timed, mean=mean, memory=peak_memory_mib(), refit=refit, replay=replay)


def _engine(experiment: Experiment, setting: Setting, fitted_on: int | None) -> Alternating:
    """The engine of an experiment with more trials than will be asked for; its predictor is fitted once, or off."""
    config = experiment.config
    settings: dict[str, Any] = {"enabled": False}
    if fitted_on is not None:
        always = {"min_correlation": -1.0, "min_pairs": 1, "bypass": 0.0}
        settings = {"enabled": True, "min_results": fitted_on, "refit_every": NEVER, **always}
    search = config.search.model_copy(
        update={
            "trials": 10 * (max(setting.results) + 100 * setting.asks),
            "predictor": config.search.predictor.model_copy(update=settings),
        }
    )
    made: ExperimentConfig = config.model_copy(update={"search": search})
    return assemble.make_engine(replace(experiment, config=made))


def _result(trial: Trial) -> Result:
    score = made_up_score(part(trial.architecture, "both"), trial.budget)
    return Result(trial=trial.number, score=score, epochs=trial.budget)


def _told(engine: Alternating, history: History) -> bool:
    """Ask, and tell the result at once; False: there is nothing left to ask for."""
    trial = engine.ask(history)
    if trial is None:
        return False
    history.asked(trial)
    history.told(_result(trial))
    return True


def _filled(engine: Alternating, history: History, results: int) -> bool:
    """Whether the history has so many results, once what is missing was asked for."""
    while len(history.results) < results:
        if not _told(engine, history):
            return False
    return True


def _asked(engine: Alternating, history: History, count: int, clock: Clock) -> tuple[tuple[Timed, ...], float]:
    """The times of so many asks that fill new slots, fewer if the space is used up; and the mean of all that is asked.

    What follows a result in a search is what asks for the checkpoints that are still wanted.
    """
    timed: list[Timed] = []
    seconds: list[float] = []
    while len(timed) < count:
        began = clock()
        trial = engine.ask(history)
        ask = clock() - began
        if trial is None:
            break
        history.asked(trial)
        result = _result(trial)
        began = clock()
        history.told(result)
        engine.wanted_checkpoints(history)
        follow = clock() - began
        seconds.append(ask + follow)
        if trial.parent is None:
            timed.append(Timed(ask=ask, follow=follow))
    return tuple(timed), math.fsum(seconds) / max(len(seconds), 1)


# hpbandster's BOHB ------------------------------------------------------------------------------------------------


class StockBOHB:
    """hpbandster's generator as it is, in its own brackets; choices that have an order are numbers, as it wants them.

    Asking is `get_config`, following is `new_result`, which fits its model.
    """

    def __init__(self, experiment: Experiment, clock: Clock) -> None:
        self.clock = clock
        parameters = experiment.space.parameters
        generators = package("hpbandster.optimizers.config_generators.bohb")
        self._halving = package("hpbandster.optimizers.iterations.successivehalving").SuccessiveHalving
        self._job = package("hpbandster.core.dispatcher").Job
        np.random.seed(experiment.config.seed)  # it draws from the global generator
        numbered = [_numbered(parameters, each) for each in parameters.values()]
        self.generator = generators.BOHB(config_space(numbered, experiment.config.seed))
        self._largest = experiment.config.search.budget.max
        self._plans = enumerate(itertools.cycle(hyperband(experiment.config.search.budget)))
        self._bracket: Any = None
        self.num_results = 0
        self.modelled: list[bool] = []
        self._ask: float | None = None

    def step(self, *, learns: bool) -> tuple[float | None, float]:
        """Seconds of asking (None: it was a promotion) and of following the result of what was asked for.

        Where it does not learn, results are kept and its model is made later; until then proposals are random.
        """
        if not learns:
            self.generator.kde_models.clear()
        slot, values, budget = self._next_run()
        score = made_up_score({name: plain(value) for name, value in values.items()}, budget)
        job = self._job(slot, config=values, budget=budget)
        job.timestamps = dict.fromkeys(("submitted", "started", "finished"), 0.0)
        job.result, job.exception = {"loss": -score, "info": {}}, None
        self._bracket.register_result(job)
        began = self.clock()
        self.generator.new_result(job, update_model=learns)
        follow = self.clock() - began
        self.num_results += 1
        return self._ask, follow

    def get_ready(self) -> None:
        """Go on until the model of the largest budget is there."""
        for _ in range(NEVER):
            self.step(learns=True)
            if self._largest in self.generator.kde_models:
                return

    def _next_run(self) -> tuple[Any, Any, float]:
        self._ask = None
        while True:
            run = None if self._bracket is None else self._bracket.get_next_run()
            if run is not None:
                slot, values, budget = run
                return slot, values, budget
            number, plan = next(self._plans)
            self._bracket = self._halving(
                HPB_iter=number,
                num_configs=list(plan.counts),
                budgets=list(plan.budgets),
                config_sampler=self._proposed,
            )

    def _proposed(self, budget: float) -> tuple[Any, Any]:
        began = self.clock()
        values, about = self.generator.get_config(budget)
        self._ask = self.clock() - began
        self.modelled.append(bool(about["model_based_pick"]))
        return values, about


def stock(setting: Setting, clock: Clock) -> Iterator[Row]:
    """Stock hpbandster. Raises MissingError when it is not installed."""
    with quietly():
        side = StockBOHB(setting.experiment(), clock)
        for results in setting.results:
            while side.num_results < results:
                side.step(learns=False)
            side.get_ready()
            side.modelled.clear()
            timed: list[Timed] = []
            seconds: list[float] = []
            while len(timed) < setting.asks:
                ask, follow = side.step(learns=True)
                seconds.append((ask or 0.0) + follow)
                if ask is not None:
                    timed.append(Timed(ask=ask, follow=follow))
            yield Row(
                results=results,
                timed=tuple(timed),
                mean=math.fsum(seconds) / len(seconds),
                memory=peak_memory_mib(),
                modelled=sum(side.modelled) / len(side.modelled),
            )


def _numbered(parents: Mapping[str, Parameter], parameter: Parameter) -> Parameter:
    """The parameter with numbers for choices that have an order, its own and those that it depends on."""
    needs = tuple(
        (name, tuple(_position(parents[name].domain, value) for value in values)) for name, values in parameter.needs
    )
    domain = parameter.domain
    if domain.kind == "ordinal":
        domain = Domain(kind="integer", low=0, high=len(domain.choices) - 1)
    return replace(parameter, domain=domain, needs=needs)


def _position(domain: Domain, value: Value) -> Value:
    return domain.choices.index(value) if domain.kind == "ordinal" else value


SIDES: Mapping[str, Callable[[Setting, Clock], Iterator[Row]]] = {"ours": ours, "predictor": predictor, "stock": stock}


CLOCKS: Mapping[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def rows_of(side: str, setting: Setting) -> list[Row]:
    """All rows of a side, on one thread."""
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        return list(SIDES[side](setting, CLOCKS[setting.clock]))
