"""Networks with made-up scores, and histories of trials of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nasflow_cli.nets  # noqa: F401  (registers the operations that the spaces name)
from nasflow_cli.core.architecture import Value
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.search_config import PredictorConfig
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.core.trial import History, Proposal, Result, Trial
from nasflow_cli.nets.builder import cells_of
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.optim.proposals import Candidate
from nasflow_cli.predict.encode import EncodedGraph, Encoder
from nasflow_cli.predict.ranker import vocabulary_of

DESCRIPTION: dict[str, Any] = {
    "stem": {"width": [8, 16]},
    "cells": {
        "body": {"nodes": [2, 3, 4], "residual": [True, False], "operations": ["conv3x3", "conv1x1", "avg_pool3x3"]}
    },
    "stages": [{"cell": "body", "width": [8, 16, 32]}, {"cell": "body", "width": [16, 32], "stride": 2}],
    "activation": {"choices": ["relu", "gelu"]},
}
LANGUAGE: dict[str, Any] = {
    "stem": {"width": 6},
    "cells": {
        "pair": {
            "nodes": 2,
            "inputs": 2,
            "edges": 2,
            "slots": "edges",
            "operations": ["none", "skip", {"conv": {"kernel": [3, 5], "groups": [1, 2]}}, "max_pool3x3"],
            "output": "all",
            "join": "concat",
            "project": {"operation": "conv1x1", "per": "cell"},
        },
        "block": {"nodes": 1, "operations": [{"mbconv": {"expansion": [2, 4], "se": [False, True]}}, "conv3x3"]},
    },
    "stages": [
        {"cell": "pair", "width": 4, "depth": [1, 2], "transition": None},
        {"cell": "pair", "width": 6, "stride": 2, "transition": None},
        {"cell": "block", "width": 8, "transition": "sep_conv3x3"},
    ],
    "head": {"width": [8, 16]},
}
"""Two inputs, arguments, projections, a head of some width."""
SPACE = SearchSpace(SpaceConfig.model_validate_json(json.dumps(DESCRIPTION)), operation_facts())
SPOKEN = SearchSpace(SpaceConfig.model_validate_json(json.dumps(LANGUAGE)), operation_facts())
VOCABULARY = vocabulary_of(SPACE)
ENCODER = Encoder(VOCABULARY)

SMALL = PredictorConfig(min_results=6, refit_every=3, min_pairs=5, ensemble=2, layers=2, width=8, steps=6)


def graphs(count: int, seed: int, space: SearchSpace = SPACE) -> list[NetworkGraph]:
    """Different connected networks."""
    return [candidate.graph for candidate in candidates(count, seed, space)]


def merit(graph: NetworkGraph) -> float:
    """Convolutions that read convolutions are good, wide networks are good, gelu is a little better."""
    total = 0.3 * (graph.activation == "gelu")
    for cell, widths in cells_of(graph, 3):
        total += 0.2 * float(np.log2(cell.out_width(widths)))
        nodes = cell.nodes
        for node in nodes:
            if node.operation == "conv3x3":
                total += 0.4 + 0.4 * sum(nodes[value - 1].operation == "conv3x3" for value in node.inputs if value)
            total -= 0.3 * (node.operation == "avg_pool3x3")
    return total


def encoded(networks: Sequence[NetworkGraph]) -> list[EncodedGraph]:
    """As the predictor reads them."""
    return [ENCODER.encode(graph) for graph in networks]


STEM = Block("stem", Cell((Node("conv3x3", (0,), 8, 1, "relu", "default"),), (1,)))


def network(
    *nodes: Node, output: Sequence[int] = (1,), depth: int = 1, width: int = 8, activation: str = "relu"
) -> NetworkGraph:
    """A stem and one stage of these nodes, all of one width."""
    body = Cell(tuple(replace(node, width=width) for node in nodes), tuple(output))
    return NetworkGraph((STEM, Block("stages.0", body, depth)), activation, "default")


def conv(*inputs: int, operation: str = "conv3x3", stride: int = 1, **arguments: Value) -> Node:
    """A node of width 8 with a usual activation."""
    return Node(operation, inputs, 8, stride, "relu", "default", tuple(sorted(arguments.items())))


def candidates(count: int, seed: int, space: SearchSpace = SPACE) -> list[Candidate]:
    """A pool of different connected networks."""
    rng = np.random.default_rng(seed)
    found: dict[str, Candidate] = {}
    while len(found) < count:
        architecture, graph = space.sample_member(rng)
        if graph.is_connected:
            found.setdefault(
                graph.key(), Candidate(architecture=architecture, graph=graph, key=graph.key(), source="random")
            )
    return list(found.values())


def trial_of(number: int, candidate: Candidate, budget: int = 1) -> Trial:
    """A trial of a candidate."""
    return Trial(
        number=number,
        architecture=candidate.architecture,
        key=candidate.key,
        budget=budget,
        seed=number,
        phase="structure",
        turn=0,
        bracket=0,
        rung=0,
        slot=(0, 0, number),
        parent=None,
        proposal=Proposal(source="random"),
    )


def history_of(
    pool: Sequence[Candidate],
    *,
    budgets: Sequence[int] | None = None,
    scores: Sequence[float | None] | None = None,
) -> History:
    """Each candidate trained and told, one after the other; a score of None is a failure."""
    history = History()
    for number, candidate in enumerate(pool):
        history.asked(trial_of(number, candidate, budgets[number] if budgets else 1))
        score = merit(candidate.graph) if scores is None else scores[number]
        error: dict[str, Any] = {} if score is not None else {"error": "boom", "error_kind": "exception"}
        history.told(Result(trial=number, score=score, **error))
    return history


def kendall(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kendall's tau-a over pairs that differ in `b`."""
    upper = np.triu(b[:, None] != b[None, :], 1)
    agreement = np.sign(a[:, None] - a[None, :]) * np.sign(b[:, None] - b[None, :])
    return float(agreement[upper].mean())
