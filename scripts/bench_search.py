r"""Search methods beside each other on a table of results: same table, same seeds, same account.

    python scripts/bench_search.py --config configs/nb201.yaml --methods ours peers --seeds 20 --evaluations 150 \
        --json search.json

Every method looks architectures up at the table's largest budget (`--budgets largest`: each look-up is one evaluation)
or may use all rungs of the experiment (`--budgets all`: the account is in epochs, each look-up pays its whole budget,
and the limit is that of so many evaluations at the largest one). `--methods` takes names and the groups peers,
ablations and all; `--list` says what they are. Runs are single-threaded; `--jobs` runs seeds beside each other. The
curves go beside the JSON, as OUT.svg and OUT-test.svg.

SMAC3 walks over sets of words, whose order changes from process to process. Where it is among the methods and
PYTHONHASHSEED is not set, the script starts itself again with PYTHONHASHSEED=0 before anything is run, so that the same
command gives the same evaluations.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from searching.methods import METHODS, Method, chosen
from searching.peers import package
from searching.problem import Problem, drive
from searching.summary import Marks, Run, curve, heading, picture, row, run_of, summary
from threadpoolctl import threadpool_limits

from nasflow_cli import assemble
from nasflow_cli.core.errors import NasflowError
from nasflow_cli.environment import environment
from nasflow_cli.optim.plan import rung_budgets

MARKS = (30, 50, 80, 100, 150)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every run of a comparison has in common; plain, so that it can be sent to another process."""

    config: Path
    overrides: tuple[str, ...]
    budgets: str
    evaluations: int


@lru_cache(maxsize=1)
def problem_of(setting: Setting) -> Problem:
    """Read experiment and table, once a process. Raises NasflowError as `nasflow check` does."""
    experiment = assemble.check(assemble.load(setting.config, list(setting.overrides)))
    rungs = rung_budgets(experiment.config.search.budget)
    table = experiment.config.table
    largest = max(table.scores) if table is not None else rungs[-1]
    budgets = rungs if setting.budgets == "all" else (largest,)
    return Problem.of(experiment, budgets, setting.evaluations)


def play(setting: Setting, name: str, seed: int, clock: Callable[[], float] = time.perf_counter) -> Run:
    """One run of one method, on one thread."""
    torch.set_num_threads(1)
    problem = problem_of(setting)
    began = clock()
    with threadpool_limits(limits=1):
        evaluations = drive(problem, METHODS[name].start(problem, seed))
    return run_of(seed, clock() - began, evaluations, problem.largest)


Play = Callable[[Setting, str, Sequence[int]], list[Run]]


@contextmanager
def player(jobs: int) -> Iterator[Play]:
    """What runs seeds: this process, or several at a time."""
    if jobs == 1:
        yield lambda setting, name, seeds: [play(setting, name, seed) for seed in seeds]
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield lambda setting, name, seeds: list(pool.map(play, [setting] * len(seeds), [name] * len(seeds), seeds))


def require(methods: Sequence[Method]) -> None:
    """Raises MissingError when a package is missing, before anything has run."""
    for method in methods:
        if method.package is not None and importlib.util.find_spec(method.package) is None:
            package(method.package)


def hash_seeded(methods: Sequence[Method], environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment in which a process must start for these methods to repeat themselves; None: this one does."""
    is_set = environment.get("PYTHONHASHSEED", "random") != "random"
    if is_set or not any(method.hash_seeded for method in methods):
        return None
    return {**environment, "PYTHONHASHSEED": "0"}


def described(method: Method) -> dict[str, Any]:
    """What a method is, for the record."""
    installed = None
    with suppress(PackageNotFoundError):
        installed = version(method.package) if method.package is not None else None
    return {"about": method.about, "repeats": method.repeats, "several_budgets": method.several, "version": installed}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--methods", nargs="+", default=["ours", "peers"], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--budgets", choices=["largest", "all"], default="largest")
    parser.add_argument("--marks", type=int, nargs="+", help="where regret and test are read: evaluations, or epochs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--list", action="store_true", help="name the methods and end")
    options = parser.parse_args(arguments)
    if options.config is None and not options.list:
        parser.error("--config is needed")
    if min(options.seeds, options.evaluations, options.jobs, *(options.marks or [1])) < 1:
        parser.error("--seeds, --evaluations, --jobs and --marks are at least 1")
    return options


def compare(options: argparse.Namespace, methods: Sequence[Method]) -> None:
    """Run all, print a line a method as it is done, and write the results after each. Raises NasflowError."""
    setting = Setting(
        config=options.config,
        overrides=tuple(options.set),
        budgets=options.budgets,
        evaluations=options.evaluations,
    )
    problem = problem_of(setting)
    best, single = problem.best_score(), options.budgets == "largest"
    unit = problem.largest if single else 1
    default = MARKS if single else tuple(mark * problem.largest for mark in MARKS)
    marks = Marks(places=tuple(options.marks or default), epochs=unit, limit=problem.limit)
    print(f"best {best:.6f} at budget {problem.largest}; costs in {'evaluations' if single else 'epochs'}")
    print(heading(marks), flush=True)
    found: dict[str, Any] = {}
    runs: dict[str, list[Run]] = {}
    with player(options.jobs) as played:
        for method in methods:
            runs[method.name] = played(setting, method.name, range(options.seeds))
            found[method.name] = described(method) | summary(runs[method.name], best, marks)
            print(row(method.name, found[method.name], marks), flush=True)
            if options.json is not None:
                write(options, problem, best, found)
    if options.json is not None:
        paint(options, runs, best, marks)


def write(options: argparse.Namespace, problem: Problem, best: float, found: dict[str, Any]) -> None:
    """The results so far, as JSON."""
    document = {
        "schema_version": 1,
        "config": str(options.config),
        "set": options.set,
        "budgets": list(problem.budgets),
        "evaluations": options.evaluations,
        "epochs": problem.limit,
        "seeds": options.seeds,
        "best_score": best,
        "environment": environment(),
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        "methods": found,
    }
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def paint(options: argparse.Namespace, runs: dict[str, list[Run]], best: float, marks: Marks) -> None:
    """The curves beside the JSON. What was named first lies on top."""
    single = options.budgets == "largest"
    unit, title = ("evaluations" if single else "epochs"), f"{options.config.stem}, {options.seeds} seeds"
    for what, suffix in (("regret", ".svg"), ("test", "-test.svg")):
        made = [curve(name, runs[name], what, best, marks) for name in reversed(runs)]
        curves = [each for each in made if each is not None]
        if curves:
            path = options.json.with_name(options.json.stem + suffix)
            path.write_text(picture(title, curves, what, unit, log=not single), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, or list the methods. Without `arguments` it is the command, which may start itself again."""
    options = parsed(arguments)
    if options.list:
        for method in METHODS.values():
            print(f"{method.name:<18} {method.about}; {method.repeats}")
        return 0
    try:
        methods = chosen(options.methods)
        require(methods)
        seeded = hash_seeded(methods, os.environ)
        if arguments is None and seeded is not None:
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], seeded)  # noqa: S606
        compare(options, methods)
    except NasflowError as error:
        print(f"bench_search: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
