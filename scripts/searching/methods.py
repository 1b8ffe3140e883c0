"""The methods by name: what each is, which package it needs, and what it does about repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.registry import nearest
from searching.classic import evolution, local_search, random_search
from searching.engine import ABLATIONS, Repeating, engine, one_budget
from searching.peers import dehb, optuna_tpe, smac3, stock_bohb
from searching.problem import Start

SAME_NETWORK = "never looks up the same network twice"
SAME_SETTINGS = "never looks up the same settings twice"
PAYS = "pays for repeats"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method and what a reader of its numbers has to know. `several` tells whether it uses cheaper budgets."""

    name: str
    about: str
    repeats: str
    start: Start
    several: bool = False
    package: str | None = None
    hash_seeded: bool = False


def _ours() -> list[Method]:
    made = [
        Method(name="ours", about="the engine", repeats=SAME_NETWORK, start=partial(engine, changes={}), several=True)
    ]
    made += [
        Method(name=name, about=about, repeats=SAME_NETWORK, start=partial(engine, changes=changes), several=True)
        for name, (about, changes) in ABLATIONS.items()
    ]
    repeating = partial(engine, changes={}, kind=Repeating)
    return [
        *made,
        Method(name="ours-repeats", about="no memory of what was tried", repeats=PAYS, start=repeating, several=True),
        Method(name="ours-one-budget", about="the largest budget alone", repeats=SAME_NETWORK, start=one_budget),
    ]


def _others() -> list[Method]:
    made: list[tuple[str, str, str, Start]] = [
        ("random", "random search", PAYS, random_search),
        ("evolution", "regularized evolution", PAYS, partial(evolution, repeats=True)),
        ("evolution-new", "the same without repeats", SAME_SETTINGS, partial(evolution, repeats=False)),
        ("local", "local search with restarts", SAME_SETTINGS, local_search),
        ("bohb", "hpbandster's own BOHB", PAYS, stock_bohb),
        ("tpe", "Optuna's TPE, each parameter on its own", PAYS, partial(optuna_tpe, multivariate=False)),
        ("tpe-new", "the same without repeats", SAME_SETTINGS, partial(optuna_tpe, multivariate=False, repeats=False)),
        ("tpe-multi", "Optuna's TPE, multivariate, its default", PAYS, partial(optuna_tpe, multivariate=True)),
        (
            "tpe-multi-new",
            "the same without repeats",
            SAME_SETTINGS,
            partial(optuna_tpe, multivariate=True, repeats=False),
        ),
        ("smac", "SMAC3", SAME_SETTINGS, smac3),
        ("smac-refit", "SMAC3, refitted after every evaluation", SAME_SETTINGS, partial(smac3, refit_after=1)),
        ("dehb", "DEHB; with one budget, which it refuses, its DE", PAYS, dehb),
    ]
    packages = {"bohb": "hpbandster", "smac": "smac", "smac-refit": "smac", "dehb": "dehb"}
    packages |= {name: "optuna" for name, *_ in made if name.startswith("tpe")}
    return [
        Method(
            name=name,
            about=about,
            repeats=repeats,
            start=start,
            several=name in ("bohb", "smac", "smac-refit", "dehb"),
            package=packages.get(name),
            hash_seeded=packages.get(name) == "smac",
        )
        for name, about, repeats, start in made
    ]


METHODS: dict[str, Method] = {method.name: method for method in [*_ours(), *_others()]}

GROUPS: dict[str, tuple[str, ...]] = {
    "peers": tuple(method.name for method in _others()),
    "ablations": tuple(method.name for method in _ours() if method.name != "ours"),
    "all": tuple(METHODS),
}
"""Words that stand for several methods."""


def chosen(names: Sequence[str]) -> list[Method]:
    """The methods of these names and groups, each once, in order. Raises ConfigError for an unknown one."""
    found: dict[str, Method] = {}
    for name in names:
        members = GROUPS.get(name, (name,))
        if members == (name,) and name not in METHODS:
            known = [*METHODS, *GROUPS]
            raise ConfigError(f"--methods: there is no {name!r}{nearest(name, known)} (known: {', '.join(known)})")
        found.update((member, METHODS[member]) for member in members)
    return list(found.values())
