"""Network graphs as the arrays that the predictor reads. Knows nothing of scores.

One graph a network: for each block a join node for each input and its cell's nodes, which carry width, stride,
arguments, depth and position, then a last join in front of the classifier. A repeated cell stands once. Graphs are
batched by concatenating edge lists, which is a hundred times faster than building them one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.graph import Cell, NetworkGraph

NUM_SCALARS = 4
"""log2 of the width, stride; behind the arguments log2 of the depth, and position from 0 (stem) to 1 (classifier)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The words that nodes of a space can carry, in a fixed order. Index 0 means none."""

    operations: tuple[str, ...]
    activations: tuple[str, ...]
    initialisations: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    """As in `conv.kernel`, and `linear.norm=batch` for each word that an argument can be."""

    @property
    def num_scalars(self) -> int:
        """Number of scalars on each node."""
        return NUM_SCALARS + len(self.arguments)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of codes of each kind, `none` included."""
        return len(self.operations) + 2, len(self.activations) + 1, len(self.initialisations) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedGraph:
    """`codes` (nodes, 3): operation, activation, initialisation; `scalars` (nodes, k); `edges` (2, edges): from, to."""

    codes: NDArray[np.int64]
    scalars: NDArray[np.float32]
    edges: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBatch:
    """Many graphs as one: as in `EncodedGraph`, with the number of nodes of each."""

    codes: NDArray[np.int64]
    scalars: NDArray[np.float32]
    edges: NDArray[np.int64]
    num_nodes: NDArray[np.int64]


class Encoder:
    """Encodes the graphs of one space."""

    JOIN = 1

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._operations = {name: code for code, name in enumerate(vocabulary.operations, start=2)}
        self._activations = {name: code for code, name in enumerate(vocabulary.activations, start=1)}
        self._initialisations = {name: code for code, name in enumerate(vocabulary.initialisations, start=1)}
        self._arguments = {name: position for position, name in enumerate(vocabulary.arguments)}
        self._cells = lru_cache(maxsize=50_000)(self._cell)

    def encode(self, graph: NetworkGraph) -> EncodedGraph:
        """One network. Raises KeyError for a word that is not in the vocabulary."""
        parts = [self._cells(block.cell) for block in graph.blocks]
        sources: list[int] = []
        targets: list[int] = []
        start, leaving = 0, (NONE, NONE)  # the values that left the last two cells, nearest first
        for position, (block, part) in enumerate(zip(graph.blocks, parts, strict=True)):
            sources += [start + value for value in part.sources]
            targets += [start + value for value in part.targets]
            for value, source in enumerate(leaving[: block.cell.num_inputs]):
                sources += source
                targets += [start + value] * len(source)
            out = [start + value for value in part.leaving]
            leaving = (out, leaving[0] if block.depth == 1 and position else out)
            start += part.num_nodes
        sources += leaving[0]
        targets += [start] * len(leaving[0])
        head = np.array([(self.JOIN, *self._codes("", graph.activation, graph.initialisation)[1:])], dtype=np.int64)
        last = np.zeros((1, self._num_scalars), dtype=np.float32)
        last[0, 0], last[0, -1] = math.log2(graph.head_width) if graph.head_width else 0.0, 1.0
        scalars = np.concatenate([*(part.scalars for part in parts), last])
        places = [(math.log2(block.depth), position / len(parts)) for position, block in enumerate(graph.blocks)]
        scalars[:-1, -2:] = np.repeat(np.array(places), [part.num_nodes for part in parts], axis=0)
        return EncodedGraph(
            codes=np.concatenate([*(part.codes for part in parts), head]),
            scalars=scalars,
            edges=np.array([sources, targets], dtype=np.int64),
        )

    @property
    def _num_scalars(self) -> int:
        return NUM_SCALARS + len(self._arguments)

    def _cell(self, cell: Cell) -> _EncodedCell:
        """A cell's nodes behind a join for each of its inputs. The same for all networks that hold it, so kept."""
        codes = [(self.JOIN, 0, 0)] * cell.num_inputs
        sources: list[int] = []
        targets: list[int] = []
        scalars = np.zeros((cell.num_inputs + len(cell.nodes), self._num_scalars), dtype=np.float32)
        for number, node in enumerate(cell.nodes, start=cell.num_inputs):
            codes.append(self._codes(node.operation, node.activation, node.initialisation))
            scalars[number, :2] = math.log2(node.width), node.stride
            for name, value in node.arguments:
                at, number_of = _argument(f"{node.operation}.{name}", value)
                scalars[number, 2 + self._arguments[at]] = number_of
            sources += node.inputs
            targets += [number] * len(node.inputs)
        return _EncodedCell(
            num_nodes=len(codes),
            codes=np.array(codes, dtype=np.int64),
            scalars=scalars,
            sources=sources,
            targets=targets,
            leaving=[*cell.output, *cell.added],
        )

    def _codes(self, operation: str, activation: str | None, initialisation: str | None) -> tuple[int, int, int]:
        return (
            self._operations[operation] if operation else 0,
            self._activations[activation] if activation else 0,
            self._initialisations[initialisation] if initialisation else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _EncodedCell:
    """`scalars` lack depth and position, which are the network's; edges go from `sources` to `targets`.

    `leaving` are the values that leave the cell.
    """

    num_nodes: int
    codes: NDArray[np.int64]
    scalars: NDArray[np.float32]
    sources: list[int]
    targets: list[int]
    leaving: list[int]


NONE: list[int] = []


def _argument(name: str, value: Value) -> tuple[str, float]:
    """The scalar that an argument sets, and to what. A word has a scalar of its own, which is 1 where it stands."""
    if isinstance(value, str):
        return f"{name}={value}", 1.0
    return name, math.log2(1.0 + abs(float(value))) * (1 if float(value) >= 0 else -1)


def batch(graphs: Sequence[EncodedGraph]) -> GraphBatch:
    """Put graphs side by side; nodes keep their order."""
    num_nodes = np.array([len(graph.codes) for graph in graphs], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(num_nodes)[:-1]])
    return GraphBatch(
        codes=np.concatenate([graph.codes for graph in graphs]),
        scalars=np.concatenate([graph.scalars for graph in graphs]),
        edges=np.concatenate([graph.edges + start for graph, start in zip(graphs, starts, strict=True)], axis=1),
        num_nodes=num_nodes,
    )
