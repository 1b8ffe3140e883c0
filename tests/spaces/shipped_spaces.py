"""Every space that ships: found, not listed, so that a new one is tested as soon as its file is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from nasflow_cli import assemble
from nasflow_cli.core.architecture import Architecture, Value
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.builder import Network
from nasflow_cli.nets.constraints import Constraints
from nasflow_cli.nets.operations import operation_facts

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "configs" / "spaces").glob("*.yaml"))

seeds = st.integers(0, 2**32)


def few(examples: int) -> Any:
    """So many examples, the same in every run."""
    slow = [HealthCheck.too_slow]
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=slow)


@cache
def experiment(name: str) -> ExperimentConfig:
    """The file as a user's would be read."""
    return assemble.load(ROOT / "configs" / "spaces" / f"{name}.yaml", [])


@cache
def space(name: str) -> SearchSpace:
    """The space of the file."""
    return SearchSpace(experiment(name).space, operation_facts())


def changed(name: str, **parts: Any) -> SearchSpace:
    """The space of the file with other parts."""
    return SearchSpace(experiment(name).space.model_copy(update=parts), operation_facts())


def example_shape(name: str, size: int) -> tuple[int, ...]:
    """The shape of an example: images of `size` a side, or vectors of `size` features."""
    takes = OPERATIONS[experiment(name).space.stem.operation].facts.get("takes", "images")
    return (size,) if takes == "vectors" else (3, size, size)


@cache
def constraints(name: str) -> Constraints:
    """The file's constraints, for CIFAR-10 images or vectors of 13 features."""
    shape = example_shape(name, 32)
    return Constraints(experiment(name).space.constraints, (13,) if len(shape) == 1 else shape, 10)


def is_feasible(name: str, graph: NetworkGraph) -> bool:
    """Whether a member may be trained."""
    return graph.flaw is None and graph.is_connected and not constraints(name).violations(graph)


def drawn(name: str, seed: int) -> tuple[Architecture, NetworkGraph]:
    """A member, and its graph."""
    return space(name).sample_member(np.random.default_rng(seed))


def feasible(name: str, seed: int) -> tuple[Architecture, NetworkGraph]:
    """A member that may be trained, and its graph."""
    rng = np.random.default_rng(seed)
    for _ in range(500):
        architecture, graph = space(name).sample_member(rng)
        if is_feasible(name, graph):
            return architecture, graph
    raise AssertionError("not one of 500 samples may be trained")


def merged(architecture: Architecture) -> dict[str, Value]:
    """The parameters of both halves."""
    return {**architecture.structure, **architecture.operators}


def on_meta(graph: NetworkGraph, shape: tuple[int, ...], num_classes: int = 10) -> Network:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return Network(graph, shape, num_classes).eval()
