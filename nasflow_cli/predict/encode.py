"""Network graphs as the arrays that the predictor reads. Knows nothing of scores.

A network is a chain of blocks, and each block a cell. Each level is a graph of its own: in a cell stand its inputs, its
nodes, and what leaves it, with widths relative to the cell's widest; in the network stand the blocks, with that width,
their depth and their position, and the head. So cells that differ in absolute width alone are one graph, which a batch
holds once, however many networks and blocks have it. Graphs are batched by concatenating edge lists, which is a hundred
times faster than building them one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.graph import Cell, NetworkGraph

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

PLACES = ("none", "input", "second input", "sum", "concat", "head")
"""Codes that stand where a node has no operation; those of the operations follow."""

NODE_SCALARS = 2
"""log2 of the width over the cell's widest, and stride; the arguments follow."""

BLOCK_SCALARS = 3
"""log2 of the cell's widest node, log2 of the depth, and position from 0 (stem) to 1 (head)."""


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
        """Number of scalars on each node of a cell."""
        return NODE_SCALARS + len(self.arguments)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of codes of each kind: operations and places, activations, initialisations."""
        return len(PLACES) + len(self.operations), len(self.activations) + 1, len(self.initialisations) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedCell:
    """`codes` (nodes, 3): operation or place, activation, initialisation; `scalars` (nodes, k); `edges` (2, edges).

    Edges go from the first row to the second. The last node is what leaves the cell. Equal cells are one object.
    """

    codes: Integers
    scalars: Floats
    edges: Integers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedGraph:
    """A network: the cell of each block and of the head, `scalars` (blocks + 1, 3), and `edges` (2, edges) between."""

    cells: tuple[EncodedCell, ...]
    scalars: Floats
    edges: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBatch:
    """Many networks as two graphs: of their different cells, side by side, and of their blocks.

    As in `EncodedCell` and `EncodedGraph`, with the number of nodes of each cell, the number of blocks of each network,
    its head among them, and the cell of each block as its position among the different ones.
    """

    codes: Integers
    node_scalars: Floats
    node_edges: Integers
    num_nodes: Integers
    cells: Integers
    block_scalars: Floats
    block_edges: Integers
    num_blocks: Integers


class Encoder:
    """Encodes the graphs of one space."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._operations = {name: code for code, name in enumerate(vocabulary.operations, start=len(PLACES))}
        self._activations = {name: code for code, name in enumerate(vocabulary.activations, start=1)}
        self._initialisations = {name: code for code, name in enumerate(vocabulary.initialisations, start=1)}
        self._arguments = {name: position for position, name in enumerate(vocabulary.arguments)}
        self._num_scalars = vocabulary.num_scalars
        self._cells = lru_cache(maxsize=50_000)(self._cell)
        self._different: WeakValueDictionary[bytes, EncodedCell] = WeakValueDictionary()

    def encode(self, graph: NetworkGraph) -> EncodedGraph:
        """One network. Raises KeyError for a word that is not in the vocabulary."""
        cells: list[EncodedCell] = []
        scalars: list[tuple[float, float, float]] = []
        edges: list[tuple[int, int]] = []
        before = (-1, -1)  # the blocks whose values the next one is given, nearest first
        for number, block in enumerate(graph.blocks):
            cell, width = self._cells(block.cell)
            cells.append(cell)
            scalars.append((_log2(width), _log2(block.depth), number / len(graph.blocks)))
            edges += [(source, number) for source in before[: block.cell.num_inputs] if source >= 0]
            before = (number, before[0] if block.depth == 1 and number else number)
        cells.append(self._only(self._place("head", graph.activation, graph.initialisation)))
        scalars.append((_log2(graph.head_width or 0), 0.0, 1.0))
        edges.append((before[0], len(graph.blocks)))
        return EncodedGraph(
            cells=tuple(cells), scalars=np.array(scalars, dtype=np.float32), edges=np.array(edges, dtype=np.int64).T
        )

    def _cell(self, cell: Cell) -> tuple[EncodedCell, int]:
        """A cell, and the width of its widest node, 0 without one. Kept, because many networks hold it."""
        widest = max((node.width for node in cell.nodes), default=0)
        codes = [self._place(place) for place in ("input", "second input")[: cell.num_inputs]]
        edges: list[tuple[int, int]] = []
        scalars = np.zeros((cell.num_inputs + len(cell.nodes) + 1, self._num_scalars), dtype=np.float32)
        for number, node in enumerate(cell.nodes, start=cell.num_inputs):
            codes.append((self._operations[node.operation], *self._words(node.activation, node.initialisation)))
            scalars[number, :NODE_SCALARS] = math.log2(node.width / widest), node.stride
            for name, value in node.arguments:
                at, number_of = _argument(f"{node.operation}.{name}", value)
                scalars[number, NODE_SCALARS + self._arguments[at]] = number_of
            edges += [(source, number) for source in node.inputs]
        edges += [(source, len(codes)) for source in (*cell.output, *cell.added)]
        codes.append(self._place(cell.join))
        return self._only(*codes, scalars=scalars, edges=edges), widest

    def _only(
        self, *codes: tuple[int, int, int], scalars: Floats | None = None, edges: Sequence[tuple[int, int]] = ()
    ) -> EncodedCell:
        """The one object that stands for all cells like this."""
        made = EncodedCell(
            codes=np.array(codes, dtype=np.int64),
            scalars=np.zeros((len(codes), self._num_scalars), dtype=np.float32) if scalars is None else scalars,
            edges=np.array(edges, dtype=np.int64).reshape(-1, 2).T,
        )
        name = b"/".join(each.tobytes() for each in (made.codes, made.scalars, made.edges))
        return self._different.setdefault(name, made)

    def _place(
        self, place: str, activation: str | None = None, initialisation: str | None = None
    ) -> tuple[int, int, int]:
        return PLACES.index(place), *self._words(activation, initialisation)

    def _words(self, activation: str | None, initialisation: str | None) -> tuple[int, int]:
        return (
            self._activations[activation] if activation else 0,
            self._initialisations[initialisation] if initialisation else 0,
        )


def _log2(number: int) -> float:
    return math.log2(number) if number else 0.0


def _argument(name: str, value: Value) -> tuple[str, float]:
    """The scalar that an argument sets, and to what. A word has a scalar of its own, which is 1 where it stands."""
    if isinstance(value, str):
        return f"{name}={value}", 1.0
    return name, math.log2(1.0 + abs(float(value))) * (1 if float(value) >= 0 else -1)


def batch(graphs: Sequence[EncodedGraph]) -> GraphBatch:
    """Put networks side by side; nodes and blocks keep their order."""
    number: dict[EncodedCell, int] = {}
    cells = [number.setdefault(cell, len(number)) for graph in graphs for cell in graph.cells]
    num_nodes = np.array([len(cell.codes) for cell in number], dtype=np.int64)
    num_blocks = np.array([len(graph.cells) for graph in graphs], dtype=np.int64)
    return GraphBatch(
        codes=np.concatenate([cell.codes for cell in number]),
        node_scalars=np.concatenate([cell.scalars for cell in number]),
        node_edges=_side_by_side([cell.edges for cell in number], num_nodes),
        num_nodes=num_nodes,
        cells=np.array(cells, dtype=np.int64),
        block_scalars=np.concatenate([graph.scalars for graph in graphs]),
        block_edges=_side_by_side([graph.edges for graph in graphs], num_blocks),
        num_blocks=num_blocks,
    )


def _side_by_side(edges: Sequence[Integers], sizes: Integers) -> Integers:
    starts = np.cumsum(sizes) - sizes
    return np.concatenate(edges, axis=1) + np.repeat(starts, [part.shape[1] for part in edges])
