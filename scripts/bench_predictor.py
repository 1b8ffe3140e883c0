"""How well the predictor orders networks that it has not seen, on a table of results.

    python scripts/bench_predictor.py --config configs/nb201.yaml --seeds 5 --json OUT

For each number of labels and each seed: labels of random members at the largest budget, one fit, and its mean value for
all other members. Reports Kendall's tau on them, the share of the best 1 % that is found among as many that the
predictor ranks first, seconds a fit, and candidates scored a second. One thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from nasflow_cli import assemble
from nasflow_cli.core.architecture import Value
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.predict.encode import EncodedGraph, Encoder
from nasflow_cli.predict.gcn import fit
from nasflow_cli.predict.ranker import shown, vocabulary_of
from nasflow_cli.train.table import Table

LABELS = (78, 156, 469, 781, 1563)


def members(
    config: ExperimentConfig, space: SearchSpace, table: Table
) -> tuple[list[EncodedGraph], NDArray[np.float64]]:
    """Every row of the table as the predictor sees it, and its score at the largest budget."""
    assert config.table is not None  # noqa: S101
    encoder = Encoder(vocabulary_of(space))
    ours = {word: name for name, word in config.table.values.items()}
    budget = max(config.table.scores)
    graphs, scores = [], []
    for key, row in table.rows.items():
        values: dict[str, Value] = {
            name: ours.get(str(cell), cell)
            for name, cell in zip(config.table.architecture, key, strict=True)
            if cell is not None and cell != config.table.absent
        }
        _, graph = space.member(values)
        graphs.append(encoder.encode(shown(graph)))
        scores.append(table.score(row, budget))
    return graphs, np.array(scores)


def measure(
    config: ExperimentConfig,
    space: SearchSpace,
    graphs: list[EncodedGraph],
    scores: NDArray[np.float64],
    labels: int,
    seed: int,
) -> dict[str, float]:
    """One fit, and what it says of all members that it has not seen."""
    order = np.random.default_rng(seed).permutation(len(graphs))
    known, rest = order[:labels], order[labels:]
    budget = max(config.table.scores) if config.table is not None else 1
    began = time.perf_counter()
    ensemble = fit(
        [graphs[i] for i in known],
        [budget] * labels,
        [float(scores[i]) for i in known],
        vocabulary_of(space),
        config.search.predictor,
        seed,
    )
    fitted = time.perf_counter()
    assert ensemble is not None  # noqa: S101
    parts = [rest[i : i + 2048] for i in range(0, len(rest), 2048)]
    values = np.concatenate(
        [ensemble.values([graphs[i] for i in part], [budget] * len(part)).mean(0) for part in parts]
    )
    scored = time.perf_counter()
    top = max(1, round(0.01 * len(rest)))
    best, chosen = set(np.argsort(-scores[rest])[:top]), set(np.argsort(-values)[:top])
    return {
        "tau": float(kendalltau(values, scores[rest]).statistic),
        "precision": len(best & chosen) / top,
        "fit_s": fitted - began,
        "scored_a_second": len(rest) / (scored - fitted),
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="*", default=LABELS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = assemble.load(options.config, options.set)
    if config.table is None:
        parser.error("the experiment has no table")
    space = SearchSpace(config.space, operation_facts())
    graphs, scores = members(config, space, Table.read(config.table))
    found = {}
    print(f"{'labels':>7} {'tau':>7} {'+-':>6} {'top 1 %':>8} {'fit s':>7} {'scored/s':>9}")
    for labels in options.labels:
        runs = [measure(config, space, graphs, scores, labels, seed) for seed in range(options.seeds)]
        found[labels] = runs
        tau = [run["tau"] for run in runs]
        mean = {name: fmean(run[name] for run in runs) for name in runs[0]}
        spread = stdev(tau) if len(tau) > 1 else 0.0
        print(
            f"{labels:>7} {mean['tau']:>7.4f} {spread:>6.4f} {mean['precision']:>8.3f} {mean['fit_s']:>7.2f} "
            f"{mean['scored_a_second']:>9.0f}",
            flush=True,
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"schema_version": 1, "runs": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
