"""How busy a search keeps many workers, on a simulated clock: no training, no sleeping.

    python scripts/bench_workers.py --config configs/nb201.yaml --workers 64 --trials 1000 --seeds 3 --json OUT

Each trial takes as long as its training took, as the table's `cost` says (a smaller budget its share of the next larger
one). Simulated workers ask the engine as `nasflow search` does, without its predictor and with it. Reports the share of
worker time that trials fill: until the last trial is handed out, and until the end, when fewer and fewer trials are
left; when a worker first had nothing to do; and the seconds that the engine itself took to answer, which the simulated
clock leaves out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from searching.workers import busyness, simulate

from nasflow_cli import assemble
from nasflow_cli.assemble import Experiment
from nasflow_cli.core.errors import ConfigError, NasflowError
from nasflow_cli.core.evaluator_config import COST_METRIC
from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.environment import environment
from nasflow_cli.search import Optimizer
from nasflow_cli.train.table import NotInTableError, Table

ENGINES = {"without": False, "with": True}
"""The engine without its predictor, and with it."""


def looked_up(experiment: Experiment, table: Table, trial: Trial) -> Result:
    """What the table says of a trial; `seconds` is the time that its training took.

    What has no row fails at once. Raises ConfigError where a row does not say what it cost.
    """
    try:
        row = table.row(experiment.space.settings(trial.architecture))
        score = table.score(row, trial.budget)
    except NotInTableError as error:
        return Result(trial=trial.number, score=None, error=str(error), error_kind="exception")
    seconds = table.metrics(row, trial.budget).get(COST_METRIC)
    if seconds is None:
        raise ConfigError(
            f"evaluator.cost: {table.columns.place(row)} does not say how long {trial.budget} epochs took; "
            "name the columns of training times"
        )
    return Result(trial=trial.number, score=score, epochs=trial.budget, seconds=seconds)


@dataclass(slots=True)
class Timed:
    """An optimiser whose answers are timed with a clock of this machine."""

    optimizer: Optimizer
    clock: Callable[[], float]
    seconds: float = 0.0

    def ask(self, history: History) -> Trial | None:
        """Ask it."""
        began = self.clock()
        trial = self.optimizer.ask(history)
        self.seconds += self.clock() - began
        return trial

    def reason(self, history: History) -> str | None:
        """Its reason."""
        return self.optimizer.reason(history)

    def wanted_checkpoints(self, history: History) -> set[int]:
        """Its wishes."""
        return self.optimizer.wanted_checkpoints(history)


def configured(experiment: Experiment, trials: int, seed: int, *, predictor: bool) -> Experiment:
    """The experiment with these settings."""
    search = experiment.config.search
    chooser = search.predictor.model_copy(update={"enabled": predictor})
    search = search.model_copy(update={"trials": trials, "predictor": chooser})
    return replace(experiment, config=experiment.config.model_copy(update={"seed": seed, "search": search}))


def measure(experiment: Experiment, table: Table, num_workers: int) -> dict[str, Any]:
    """One search."""
    timed = Timed(assemble.make_optimizer(experiment), time.perf_counter)
    history, shifts = simulate(timed, num_workers, lambda trial: looked_up(experiment, table, trial))
    busy = asdict(busyness(shifts, num_workers))
    return {"seed": experiment.config.seed, "trials": len(history.trials), **busy, "engine_s": timed.seconds}


def line(name: str, runs: Sequence[dict[str, Any]]) -> str:
    """The means of an engine on a line, with the lowest share of each kind."""
    mean = {key: fmean(run[key] for run in runs) for key in runs[0]}
    shares = "".join(
        f" {mean[key]:>11.4f} {min(run[key] for run in runs):>8.4f}" for key in ("until_last_handed_out", "until_end")
    )
    hours = "".join(f" {mean[key] / 3600:>8.2f}" for key in ("first_idle_s", "last_handed_out_s", "end_s"))
    return f"{name:<10} {mean['trials']:>7.0f}{shares}{hours} {mean['engine_s']:>9.1f}"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1")
    parser.add_argument("--predictor", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if min(options.workers, options.trials, options.seeds) < 1:
        parser.error("--workers, --trials and --seeds are at least 1")
    return options


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Simulate all, and print a line an engine. Raises NasflowError."""
    experiment = assemble.check(assemble.load(options.config, [*options.set, f"search.trials={options.trials}"]))
    if experiment.table is None:
        raise ConfigError("evaluator: this experiment has no table of results, which says how long trainings take")
    print(
        f"{options.workers} workers; shares of their time (mean, lowest), hours of the simulated clock, seconds of ours"
    )
    print(
        f"{'predictor':<10} {'trials':>7} {'handing out':>11} {'lowest':>8} {'to the end':>11} {'lowest':>8} "
        f"{'idle h':>8} {'last h':>8} {'end h':>8} {'engine s':>9}",
        flush=True,
    )
    found: dict[str, Any] = {}
    for name in options.predictor:
        found[name] = [
            measure(
                configured(experiment, options.trials, seed, predictor=ENGINES[name]), experiment.table, options.workers
            )
            for seed in range(options.seeds)
        ]
        print(line(name, found[name]), flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and write what was found."""
    options = parsed(arguments)
    torch.set_num_threads(1)
    try:
        found = compare(options)
    except NasflowError as error:
        print(f"bench_workers: {error}", file=sys.stderr)
        return error.exit_code
    if options.json is not None:
        document = {
            "schema_version": 1,
            "config": str(options.config),
            "set": options.set,
            "workers": options.workers,
            "environment": environment(),
            "predictor": found,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
