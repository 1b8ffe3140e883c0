"""Which learning-rate schedule lets a rung's score tell what a whole training would give, and what each one pays.

    python scripts/bench_schedules.py --config configs/cifar10-small.yaml --networks 12 --out FILE.jsonl \
        --set data.path=DIR --set data.train_limit=14000 --set data.validation_fraction=0.714

Random members of the space are trained by every schedule to every rung, all from the same weights, in the same order of
the images. The yardstick is one long training of `--final` epochs from another seed, its rate annealed. Every network
is scored on the validation split, which is best taken large: by its averaged weights, as in a search, and beside that
by those at hand (`plain`). With a decay, each rung branches off the constant rate's training, as it does in a search.
`constant-bf16` is `constant` under bfloat16 autocast, `constant-again` is `constant` from another seed (weights, order,
changes of images), which says how much of a difference is chance. A line a network goes to `--out` once it is there,
and a second call goes on from them. One thread a job.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from nasflow_cli import assemble
from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.seeds import Purpose, derived_seed, generator
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.cost import cost
from nasflow_cli.train.data import load_splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.schedule import Schedule
from nasflow_cli.train.trainer import Trainer

METHODS = ("constant", "decay", "cosine", "constant-bf16", "constant-again")
CPU = torch.device("cpu")
RESAMPLES = 2000


class Bench:
    """The data and the space, and what is asked of every network."""

    def __init__(self, config: Path, overrides: Sequence[str], rungs: Sequence[int], final: int) -> None:
        self.experiment = assemble.check(assemble.load(config, overrides))
        splits = load_splits(self.experiment.config.data_section)
        self.splits, self.rungs, self.final = splits, rungs, final
        self.train, self.validation = Images.on(CPU, splits.train), Images.on(CPU, splits.validation)

    def members(self) -> Iterator[NetworkGraph]:
        """Different members of the space that may be trained, without end."""
        seen, number = set(), 0
        while True:
            _, graph = self.experiment.space.sample_member(
                generator(self.experiment.config.seed, number, Purpose.SURVEY)
            )
            number += 1
            if self.experiment.is_feasible(graph) and graph.key() not in seen:
                seen.add(graph.key())
                yield graph

    def recipe(self, schedule: str, precision: str = "float32") -> TrainingConfig:
        """The experiment's recipe under another schedule."""
        return self.experiment.config.training.model_copy(update={"schedule": schedule, "precision": precision})

    def trainer(self, graph: NetworkGraph, recipe: TrainingConfig, seed: int) -> Trainer:
        """A network with fresh weights."""
        splits = self.splits
        network = build(graph, splits.input_shape, splits.num_classes, derived_seed(seed, 0, Purpose.WEIGHTS))
        return Trainer(network, recipe, Normalise(splits, CPU), seed, CPU)

    def epochs(self, trainer: Trainer, schedule: Schedule, start: int, end: int) -> None:
        """Train the epochs from `start` to `end`."""
        for number in range(start, end):
            trainer.epoch(number, self.train, self.experiment.config.data_section.augment, schedule.rate)

    def scores(self, trainer: Trainer) -> tuple[float, float]:
        """Accuracy of the averaged weights, and of those at hand."""
        averaged = trainer.evaluate(self.validation).accuracy
        trainer.network.eval()
        with torch.no_grad():
            outputs = torch.cat([trainer.network(trainer.normalise(raw)) for raw in self.validation.in_turn(1024)])
        return averaged, float((outputs.argmax(1) == self.validation.labels).double().mean())

    def along(self, graph: NetworkGraph, recipe: TrainingConfig, seed: int = 0) -> list[tuple[float, float]]:
        """Scores at every rung of one training that goes through all of them."""
        trainer, start, scores = self.trainer(graph, recipe, seed), 0, []
        for rung in self.rungs:
            self.epochs(trainer, Schedule(recipe=recipe, budget=rung, horizon=self.rungs[-1]), start, rung)
            scores.append(self.scores(trainer))
            start = rung
        return scores

    def branches(self, graph: NetworkGraph) -> list[tuple[float, float]]:
        """Scores at every rung, each at the end of a branch of its own off one stem."""
        recipe = self.recipe("decay")
        stem, at, scores = self.trainer(graph, recipe, 0), 0, []
        for rung in self.rungs:
            schedule = Schedule(recipe=recipe, budget=rung, horizon=self.rungs[-1])
            self.epochs(stem, schedule, at, schedule.stem)
            at = schedule.stem
            branch = self.trainer(graph, recipe, 0)
            branch.restore(stem.tensors())
            self.epochs(branch, schedule, at, rung)
            scores.append(self.scores(branch))
        return scores

    def network(self, number: int) -> dict[str, Any]:
        """All scores of one network."""
        torch.set_num_threads(1)
        graph = next(graph for place, graph in enumerate(self.members()) if place == number)
        about = cost(graph, self.splits.input_shape, self.splits.num_classes)
        annealed = self.recipe("cosine")
        whole = self.trainer(graph, annealed, 1)
        self.epochs(whole, Schedule(recipe=annealed, budget=self.final, horizon=self.final), 0, self.final)
        return {
            "network": number,
            "rungs": list(self.rungs),
            "epochs": self.final,
            "key": graph.key(),
            "params": about.params,
            "flops": about.flops,
            "final": whole.evaluate(self.validation).accuracy,
            "scores": {
                "constant": self.along(graph, self.recipe("constant")),
                "decay": self.branches(graph),
                "cosine": self.along(graph, annealed),
                "constant-bf16": self.along(graph, self.recipe("constant", "bfloat16")),
                "constant-again": self.along(graph, self.recipe("constant"), seed=2),
            },
        }


def paid(recipe: TrainingConfig, method: str, rungs: Sequence[int]) -> int:
    """Epochs that one network pays on its way through all rungs."""
    kind = method.partition("-")[0]
    total, stem = 0, 0
    for rung in rungs:
        total += rung - stem
        schedule = Schedule(recipe=recipe.model_copy(update={"schedule": kind}), budget=rung, horizon=rungs[-1])
        stem = schedule.stem
    return total


def tau(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Kendall's rank correlation."""
    return float(kendalltau(one, other).statistic)


def summary(rows: Sequence[Mapping[str, Any]], rungs: Sequence[int], recipe: TrainingConfig) -> list[str]:
    """A line a schedule and rung: mean score, correlation with the final score and its error, what its choice lacks."""
    final = np.array([row["final"] for row in rows])
    head = ("score", "tau", "+-", "lack", "paid", "plain", "tau")
    lines = [f"{'schedule':>14} {'rung':>5} " + " ".join(f"{name:>7}" for name in head)]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(rows), size=(RESAMPLES, len(rows)))
    for method in METHODS:
        for place, rung in enumerate(rungs):
            scores, plain = (np.array([row["scores"][method][place][which] for row in rows]) for which in (0, 1))
            resampled = np.array([tau(scores[draw], final[draw]) for draw in draws])
            lack = final.max() - final[scores.argmax()]
            lines.append(
                f"{method:>14} {rung:>5} {scores.mean():>7.4f} {tau(scores, final):>7.3f} "
                f"{np.nanstd(resampled):>7.3f} {lack:>7.4f} {paid(recipe, method, rungs):>7} "
                f"{plain.mean():>7.4f} {tau(plain, final):>7.3f}"
            )
    lines.append(f"final scores {final.min():.4f} to {final.max():.4f}, mean {final.mean():.4f}")
    own = np.array([row["scores"]["constant"][-1][0] for row in rows])
    for method in METHODS[1:]:
        other = np.array([row["scores"][method][-1][0] for row in rows])
        lines.append(
            f"last rung, {method} beside constant: tau {tau(own, other):.3f}, scores differ by "
            f"{fmean(abs(own - other)):.4f}, {fmean(other - own):+.4f} with their sign"
        )
    return lines


def _measured(options: argparse.Namespace, number: int) -> dict[str, Any]:
    return Bench(options.config, options.set, options.rungs, options.final).network(number)


def main() -> None:
    """Measure what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--rungs", type=int, nargs="+", default=[2, 6, 18])
    parser.add_argument("--final", type=int, default=36)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if any((row["rungs"], row["epochs"]) != (list(options.rungs), options.final) for row in rows):
        parser.error(f"{options.out} was made with other --rungs or --final; name another file")
    missing = [number for number in range(options.networks) if number not in {row["network"] for row in rows}]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool, options.out.open("a") as out:
        for future in as_completed([pool.submit(_measured, options, number) for number in missing]):
            rows.append(future.result())
            out.write(json.dumps(rows[-1]) + "\n")
            out.flush()
            print(f"{len(rows)} of {options.networks}", flush=True)
    recipe = assemble.load(options.config, options.set).training
    print("\n".join(summary(sorted(rows, key=lambda row: row["network"]), options.rungs, recipe)))


if __name__ == "__main__":
    main()
