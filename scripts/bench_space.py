"""How fast spaces are sampled, keyed, encoded for the predictor and costed, on one core.

    python scripts/bench_space.py [SPACE]... [--members N] [--repeats N] [--json OUT]

Each repeat draws members of its own, the same in every run, with all caches of cells empty: medians over the repeats.
What each operation costs at each shape is kept, as in a search; "operations unknown" is the first time, without. Every
time also stands beside the time that the members take to be built on the meta device, in the same repeat.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasflow_cli import assemble
from nasflow_cli.core import cells
from nasflow_cli.core.canonical import canonical_labels
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets import cost as costs
from nasflow_cli.nets.builder import Network
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.predict.encode import Encoder, batch
from nasflow_cli.predict.ranker import vocabulary_of

SPACES = Path(__file__).resolve().parent.parent / "configs" / "spaces"
GOALS = {"sample and key": 2_000, "graphs for the predictor": 10_000, "cost": 500}
"""A second, on NAS-Bench-201."""

BATCH = 256
NUM_BUILT = 10
"""Members that are built in each repeat: it takes long."""


def shape_of(name: str, graph: NetworkGraph) -> tuple[int, ...]:
    """CIFAR-10 images, or vectors of 13 features."""
    return (13,) if graph.blocks[0].cell.nodes[0].operation == "linear" else (3, 32, 32)


def clear_caches() -> None:
    """Forget all cells. What operations cost is kept."""
    for kept in (cells._wired, cells._placed, canonical_labels):
        kept.cache_clear()
    costs._cell_cost.cache_clear()
    costs._head_cost.cache_clear()


def timed(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    began = clock()
    work()
    return clock() - began


def one_repeat(name: str, space: SearchSpace, seed: int, num_members: int) -> dict[str, float]:
    """Seconds a member of everything."""
    clock, rng = time.process_time, np.random.default_rng(seed)
    clear_caches()
    space = SearchSpace(space.config, space.facts)  # one that has not decoded anything
    graphs: list[NetworkGraph] = []

    def sample_and_key() -> None:
        for _ in range(num_members):
            graph = space.sample_member(rng)[1]
            graph.key()
            graphs.append(graph)

    times = {"sample and key": timed(clock, sample_and_key)}
    encoder = Encoder(vocabulary_of(space))
    bare = [graph.simplified or graph for graph in graphs]

    def encode() -> None:
        for start in range(0, num_members, BATCH):
            batch([encoder.encode(graph) for graph in bare[start : start + BATCH]])

    times["graphs for the predictor"] = timed(clock, encode)
    shape = shape_of(name, graphs[0])
    times["cost, operations unknown"] = timed(clock, lambda: [costs.cost(graph, shape, 10) for graph in graphs])
    clear_caches()
    times["cost"] = timed(clock, lambda: [costs.cost(graph, shape, 10) for graph in graphs])

    def build() -> None:
        with torch.device("meta"):
            for graph in graphs[:NUM_BUILT]:
                Network(graph, shape, 10)

    result = {key: seconds / num_members for key, seconds in times.items()}
    return {**result, "built on the meta device": timed(clock, build) / NUM_BUILT}


def measure(name: str, num_members: int, repeats: int) -> dict[str, dict[str, float]]:
    """Of each thing how often a second, and how many times faster than building; the first repeat warms up."""
    space = SearchSpace(assemble.load(SPACES / f"{name}.yaml", []).space, operation_facts())
    costs._operation_cost.cache_clear()
    first, *rounds = (one_repeat(name, space, seed, num_members) for seed in range(repeats + 1))
    # The first members of a space also measure its operations; later ones hardly do.
    rounds = [{**times, "cost, operations unknown": first["cost, operations unknown"]} for times in rounds]
    built = "built on the meta device"
    return {
        what: {
            "per_second": statistics.median(1 / times[what] for times in rounds),
            "times_building": statistics.median(times[built] / times[what] for times in rounds),
        }
        for what in rounds[0]
    }


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """What was found, a line a space and a thing."""
    lines = [f"{'space':<14}{'':<28}{'a second':>12}{'x building':>12}{'goal':>10}"]
    for name, rows in found.items():
        for what, row in rows.items():
            goal = GOALS.get(what) if name == "nasbench201" else None
            met = "" if goal is None else f"{goal:,}" + ("" if row["per_second"] >= goal else " !")
            lines.append(f"{name:<14}{what:<28}{row['per_second']:>12,.0f}{row['times_building']:>12,.1f}{met:>10}")
    return "\n".join(lines)


def main() -> int:
    """Measure and print. Exits with 1 when a goal is missed."""
    known = sorted(path.stem for path in SPACES.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("spaces", nargs="*", metavar="SPACE", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.spaces) - set(known):
        parser.error(f"no space is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    torch.set_num_threads(1)
    found = {name: measure(name, options.members, options.repeats) for name in options.spaces or known}
    print(table(found))
    if options.json:
        document: dict[str, Any] = {"schema_version": 1, "goals": GOALS, "torch": torch.__version__, "spaces": found}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    reached = found.get("nasbench201", {})
    return int(any(reached[what]["per_second"] < goal for what, goal in GOALS.items() if what in reached))


if __name__ == "__main__":
    sys.exit(main())
