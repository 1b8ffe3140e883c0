"""Other people's optimisers, each through its own public interface, in this process, asked and told one by one.

Each searches the parameters of both halves together, compiled to its own kind of space. Packages are imported when a
method begins; one that is missing is a MissingError with the command that installs it. What writes files writes them
into a folder that ends with the run.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.domain import Domain
from nasflow_cli.core.errors import MissingError
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.search_config import BudgetConfig
from nasflow_cli.optim.configspace import config_space, plain
from nasflow_cli.optim.plan import hyperband
from searching.classic import MAX_DRAWS
from searching.problem import Problem, Query, Steps

ETA = 3
"""Of Hyperband, in every method that has one: the default of all of them."""


def package(name: str) -> Any:
    """Import a package of the extra `bench`. Raises MissingError when it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
            raise
        raise MissingError(
            f"the package {name.partition('.')[0]!r} is not installed; "
            "install the peers with: python -m pip install --constraint constraints.txt '.[bench]'"
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what old packages warn of on every call off the terminal."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


def _loss(problem: Problem, score: float | None) -> float:
    return -(problem.worst_score() if score is None else score)


# Optuna -----------------------------------------------------------------------------------------------------------


def optuna_tpe(problem: Problem, seed: int, *, multivariate: bool, repeats: bool = True) -> Steps:
    """Optuna's TPE (Bergstra et al. 2011); multivariate: one density over all parameters (Falkner et al. 2018).

    Parameters are suggested as decoding reads them, so that a trial has exactly the active ones. All else is its
    default. Without `repeats`, what was suggested before is told its known score and not looked up again, as the
    answer to "How can I ignore duplicated samples?" in its documentation has it.
    """
    optuna = package("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    conditional = any(parameter.needs for parameter in problem.parameters)
    with quietly():
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=multivariate, group=multivariate and conditional)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    rng = np.random.default_rng(seed)
    known: dict[object, float] = {}
    num_repeats = 0
    while num_repeats < MAX_DRAWS:
        trial = study.ask()
        architecture = problem.member(_suggested_values(problem, trial), rng)
        identity = problem.identity(architecture)
        num_repeats = num_repeats + 1 if identity in known and not repeats else 0
        if num_repeats == 0:
            known[identity] = -_loss(problem, (yield Query(architecture=architecture, budget=problem.largest)))
        study.tell(trial, known[identity])


def _suggested_values(problem: Problem, trial: Any) -> dict[str, Value]:
    values: dict[str, Value] = {}

    def read(name: str) -> Value:
        if name not in values:
            values[name] = _suggested(trial, problem.space.parameters[name])
        return values[name]

    problem.space.decode(read)
    return values


def _suggested(trial: Any, parameter: Parameter) -> Value:
    name, domain = parameter.name, parameter.domain
    if domain.kind == "categorical":
        return plain(trial.suggest_categorical(name, list(domain.choices)))
    if domain.kind == "ordinal":
        return domain.choices[int(trial.suggest_int(name, 0, len(domain.choices) - 1))]
    if domain.kind == "integer":
        return int(trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log))
    return float(trial.suggest_float(name, domain.low, domain.high, log=domain.log))


# hpbandster's BOHB ------------------------------------------------------------------------------------------------


def stock_bohb(problem: Problem, seed: int) -> Steps:
    """The BOHB of hpbandster as it is (Falkner et al. 2018): its generator and its brackets, without its Pyro4 master.

    It draws from NumPy's global generator, which is seeded here, and knows no ordered choices, which become whole
    numbers.
    """
    generators = package("hpbandster.optimizers.config_generators.bohb")
    halving = package("hpbandster.optimizers.iterations.successivehalving").SuccessiveHalving
    dispatcher = package("hpbandster.core.dispatcher")
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    numbered = [_numbered(problem, parameter) for parameter in problem.parameters]
    with quietly():
        generator = generators.BOHB(config_space(numbered, seed))
    for number, plan in enumerate(itertools.cycle(hyperband(hyperband_budgets(problem)))):
        bracket = halving(
            HPB_iter=number,
            num_configs=list(plan.counts),
            budgets=list(plan.budgets),
            config_sampler=generator.get_config,
        )
        while True:
            with quietly():
                run = bracket.get_next_run()
            if run is None:
                break
            slot, values, budget = run
            named = {name: _unnumbered(problem.space.parameters[name], plain(value)) for name, value in values.items()}
            score = yield Query(architecture=problem.member(named, rng), budget=int(budget))
            with quietly():
                _learn(generator, bracket, _job(dispatcher.Job(slot, config=values, budget=budget), score))


def hyperband_budgets(problem: Problem) -> BudgetConfig:
    """The problem's budgets as rungs."""
    return BudgetConfig(min=problem.budgets[0], max=problem.largest, eta=ETA, rungs=problem.budgets)


def _job(job: Any, score: float | None) -> Any:
    job.timestamps = dict.fromkeys(("submitted", "started", "finished"), 0.0)
    job.result = None if score is None else {"loss": -score, "info": {}}
    job.exception = None if score is not None else "the table has no score"
    return job


def _learn(generator: Any, bracket: Any, job: Any) -> None:
    bracket.register_result(job)
    generator.new_result(job)


def _numbered(problem: Problem, parameter: Parameter) -> Parameter:
    """The parameter with numbers for choices that have an order."""
    parents = problem.space.parameters
    needs = tuple(
        (name, tuple(_position(parents[name], value) for value in values)) for name, values in parameter.needs
    )
    domain = parameter.domain
    if domain.kind == "ordinal":
        domain = Domain(kind="integer", low=0, high=len(domain.choices) - 1)
    return replace(parameter, domain=domain, needs=needs)


def _position(parameter: Parameter, value: Value) -> Value:
    return parameter.domain.choices.index(value) if parameter.domain.kind == "ordinal" else value


def _unnumbered(parameter: Parameter, value: Value) -> Value:
    return parameter.domain.choices[int(value)] if parameter.domain.kind == "ordinal" else value


# SMAC3 ------------------------------------------------------------------------------------------------------------


def smac3(problem: Problem, seed: int, *, refit_after: int = 8) -> Steps:
    """SMAC3 (Lindauer et al. 2022): random forest and expected improvement; with several budgets, its Hyperband.

    Its facade for hyperparameters, or for several fidelities, and their defaults: Sobol points to begin with (random
    ones with several budgets), at most a quarter of all. The forest is refitted after `refit_after`
    configurations, of which 8 is the default. A look-up is not repeated with another seed. Rung i of our
    budgets is its budget 3**i, so that its brackets are those of the other methods.
    """
    smac = package("smac")
    runhistory = package("smac.runhistory")
    several = len(problem.budgets) > 1
    facade = smac.MultiFidelityFacade if several else smac.HyperparameterOptimizationFacade
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        scenario = smac.Scenario(
            config_space(problem.parameters, seed),
            deterministic=True,
            n_trials=problem.limit // problem.budgets[0],
            output_directory=Path(folder),
            seed=seed,
            **({"min_budget": 1, "max_budget": ETA ** (len(problem.budgets) - 1)} if several else {}),
        )
        with quietly():
            selector = facade.get_config_selector(scenario, retrain_after=refit_after)
            optimizer = facade(scenario, None, config_selector=selector, logging_level=False, overwrite=True)
        while True:
            with quietly():
                info = _asked(optimizer)
            if info is None:
                return
            score = yield _query(problem, dict(info.config), info.budget, rng)
            with quietly():
                optimizer.tell(info, runhistory.TrialValue(cost=_loss(problem, score)), save=False)


def _asked(optimizer: Any) -> Any:
    """The next trial, or None: SMAC has nothing left to propose."""
    try:
        return optimizer.ask()
    except StopIteration:
        return None


def _query(problem: Problem, values: Mapping[str, Any], fidelity: float | None, rng: np.random.Generator) -> Query:
    """What another package wants to know, at its budget 3**i (None: the largest)."""
    rung = -1 if fidelity is None else round(math.log(fidelity, ETA))
    named = {name: plain(value) for name, value in values.items()}
    return Query(architecture=problem.member(named, rng), budget=problem.budgets[rung])


# DEHB -------------------------------------------------------------------------------------------------------------


def dehb(problem: Problem, seed: int) -> Steps:
    """DEHB (Awad et al. 2021), its defaults; rung i of our budgets is its fidelity 3**i.

    It refuses a single budget and says to use its DE instead, which is what is done there. Both are used without
    ConfigSpace, as its documentation shows: what version 0.1.1 does with one takes the fourth of five choices for the
    third in the first population (3 / 5 is below `numpy.arange(0, 1, 1 / 5)[3]`), which then lacks an operation.
    """
    module = package("dehb")
    log = package("loguru").logger
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder, quietly():
        log.remove()  # the package logs to stdout
        if len(problem.budgets) == 1:
            yield from _evolved(problem, module.AsyncDE, seed, folder)
            return
        optimizer = module.DEHB(
            dimensions=len(problem.parameters),
            min_fidelity=1,
            max_fidelity=ETA ** (len(problem.budgets) - 1),
            eta=ETA,
            n_workers=1,
            seed=seed,
            output_path=folder,
        )
        log.remove()
        while True:
            job = optimizer.ask()
            score = yield _query(problem, placed(problem, job["config"]), job["fidelity"], rng)
            optimizer.tell(job, {"fitness": _loss(problem, score), "cost": float(job["fidelity"])})


def placed(problem: Problem, vector: Sequence[float]) -> dict[str, Value]:
    """What a place in the unit cube stands for: the choices of a parameter share [0, 1] in equal parts."""
    values: dict[str, Value] = {}
    for parameter, position in zip(problem.parameters, vector, strict=True):
        domain = parameter.domain
        choice = min(int(position * len(domain.choices)), len(domain.choices) - 1)
        values[parameter.name] = domain.choices[choice] if domain.choices else domain.from_unit(float(position))
    return values


def _evolved(problem: Problem, kind: Any, seed: int, folder: str) -> Steps:
    """Differential evolution of the package's own steps and defaults: rand1_bin, factor and crossover 0.5, 20 members.

    Its `run` calls back; here the same loop asks instead. As in DEHB, a child takes its parent's place at once.
    """
    rng = np.random.default_rng(seed)
    evolution = kind(
        dimensions=len(problem.parameters),
        pop_size=20,
        mutation_factor=0.5,
        crossover_prob=0.5,
        strategy="rand1_bin",
        seed=seed,
        output_path=folder,
    )
    evolution.population = evolution.init_population(evolution.pop_size)
    losses: list[float] = []
    for number in itertools.count():
        place = number % evolution.pop_size
        vector = evolution.population[place]
        if number >= evolution.pop_size:
            mutant = evolution.mutation(current=vector)
            vector = evolution.boundary_check(evolution.crossover(target=vector, mutant=mutant))
        score = yield _query(problem, placed(problem, vector), None, rng)
        loss = _loss(problem, score)
        if number < evolution.pop_size:
            losses.append(loss)
        elif loss <= losses[place]:
            evolution.population[place], losses[place] = vector, loss
