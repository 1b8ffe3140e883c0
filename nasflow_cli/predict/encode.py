"""Network graphs as the arrays that the predictor reads. Knows nothing of scores.

One graph a network: for each block a join node (its input, carrying width, depth and position) and its cell's nodes,
then a last join in front of the classifier. A repeated cell stands once, its depth on its join. Graphs are batched by
concatenating edge lists, which is a hundred times faster than building them one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasflow_cli.core.graph import NetworkGraph

NUM_SCALARS = 4
"""log2 of the width, log2 of the depth, stride, and position from 0 (stem) to 1 (classifier)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The words that nodes of a space can carry, in a fixed order. Index 0 means none."""

    operations: tuple[str, ...]
    activations: tuple[str, ...]
    initialisations: tuple[str, ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of codes of each kind, `none` included."""
        return len(self.operations) + 2, len(self.activations) + 1, len(self.initialisations) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedGraph:
    """`codes` (nodes, 3): operation, activation, initialisation; `scalars` (nodes, 4); `edges` (2, edges): from, to."""

    codes: NDArray[np.int64]
    scalars: NDArray[np.float32]
    edges: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBatch:
    """Many graphs as one: as in `EncodedGraph`, with the number of nodes and edges of each."""

    codes: NDArray[np.int64]
    scalars: NDArray[np.float32]
    edges: NDArray[np.int64]
    num_nodes: NDArray[np.int64]
    num_edges: NDArray[np.int64]


class Encoder:
    """Encodes the graphs of one space."""

    JOIN = 1

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._operations = {name: code for code, name in enumerate(vocabulary.operations, start=2)}
        self._activations = {name: code for code, name in enumerate(vocabulary.activations, start=1)}
        self._initialisations = {name: code for code, name in enumerate(vocabulary.initialisations, start=1)}

    def encode(self, graph: NetworkGraph) -> EncodedGraph:
        """One network. Raises KeyError for a word that is not in the vocabulary."""
        codes: list[tuple[int, int, int]] = []
        scalars: list[tuple[float, float, float, float]] = []
        edges: list[tuple[int, int]] = []
        previous: Iterable[int] = ()
        for position, block in enumerate(graph.blocks):
            place = (math.log2(block.width), math.log2(block.depth), block.stride, position / len(graph.blocks))
            first = len(codes)
            codes.append((self.JOIN, 0, 0))
            scalars.append(place)
            edges.extend((source, first) for source in previous)
            for offset, node in enumerate(block.cell.nodes, start=1):
                codes.append(self._codes(node.operation, node.activation, node.initialisation))
                scalars.append(place)
                edges.extend((first + value, first + offset) for value in node.inputs)
            previous = [first + value for value in block.cell.output]
        codes.append((self.JOIN, *self._codes("", graph.activation, graph.initialisation)[1:]))
        scalars.append((math.log2(graph.blocks[-1].width), 0.0, 1.0, 1.0))
        edges.extend((source, len(codes) - 1) for source in previous)
        return EncodedGraph(
            codes=np.array(codes, dtype=np.int64),
            scalars=np.array(scalars, dtype=np.float32),
            edges=np.array(edges, dtype=np.int64).reshape(-1, 2).T,
        )

    def _codes(self, operation: str, activation: str | None, initialisation: str | None) -> tuple[int, int, int]:
        return (
            self._operations[operation] if operation else 0,
            self._activations[activation] if activation else 0,
            self._initialisations[initialisation] if initialisation else 0,
        )


def batch(graphs: Sequence[EncodedGraph]) -> GraphBatch:
    """Put graphs side by side; nodes keep their order."""
    num_nodes = np.array([len(graph.codes) for graph in graphs], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(num_nodes)[:-1]])
    return GraphBatch(
        codes=np.concatenate([graph.codes for graph in graphs]),
        scalars=np.concatenate([graph.scalars for graph in graphs]),
        edges=np.concatenate([graph.edges + start for graph, start in zip(graphs, starts, strict=True)], axis=1),
        num_nodes=num_nodes,
        num_edges=np.array([graph.edges.shape[1] for graph in graphs], dtype=np.int64),
    )
