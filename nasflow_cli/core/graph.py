"""The network as a graph: what a space decodes to, and what builder, cost model, predictor and key read.

A graph is a chain of blocks; each block repeats a cell; a cell is a directed acyclic graph of operations. Value 0 of a
cell is its input and value i + 1 is what node i computes from the sum of its inputs. `simplify` and `key` know two
algebraic facts, told to them by the operations' registrations: an identity passes its input on, a zero passes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFacts:
    """What the structure of computation depends on: declared where an operation is registered."""

    identity: bool = False
    zero: bool = False
    activated: bool = False
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """An operation on the sum of some values. Activation and initialisation are None where it has no use for them."""

    operation: str
    inputs: tuple[int, ...]
    activation: str | None = None
    initialisation: str | None = None

    @property
    def label(self) -> str:
        """What the node does, without where it stands."""
        return f"{self.operation}/{self.activation}/{self.initialisation}"


@dataclass(frozen=True, slots=True)
class Cell:
    """Nodes in topological order, and the values whose sum leaves the cell (with multiplicity)."""

    nodes: tuple[Node, ...]
    output: tuple[int, ...]

    def __post_init__(self) -> None:
        for position, node in enumerate(self.nodes):
            if any(not 0 <= value <= position for value in node.inputs):
                raise ValueError(f"node {position} reads a value that is not computed before it")
        if any(not 0 <= value <= len(self.nodes) for value in self.output):
            raise ValueError("the cell's output reads a value that is not computed")


@dataclass(frozen=True, slots=True)
class Block:
    """`depth` copies of a cell, one after the other, at `width` channels; the first one applies the stride."""

    name: str
    cell: Cell
    width: int
    stride: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """A whole network: blocks, then activation, global average, dropout and a linear classifier."""

    blocks: tuple[Block, ...]
    activation: str
    initialisation: str
    dropout: float = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether anything of the input reaches the classifier."""
        return all(block.cell.output for block in self.blocks)

    def key(self) -> str:
        """Content hash of what the network computes, equal in every process. 16 hexadecimal digits.

        Isomorphic cells, the order of nodes and inputs, dead branches and the way in which equal blocks are grouped do
        not matter. Only exact isomorphism counts: a shared node is not two nodes with equal inputs, which have
        weights of their own. The graph must be simplified.
        """
        blocks: list[list[object]] = []
        for block in self.blocks:
            if not block.cell.output:
                blocks = [["zero", block.width]]
                continue
            form = [canonical_form(block.cell), block.width]
            for stride in [block.stride] + [1] * (block.depth - 1):
                if block.cell.nodes or stride != 1 or block.cell.output != (0,):
                    blocks.append([*form, stride])
        value = [blocks, self.activation, self.initialisation, self.dropout]
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def simplify(cell: Cell, facts: Mapping[str, OperationFacts]) -> Cell:
    """Return the cell without identities, zeros, and nodes that nothing reads; sums keep their multiplicities.

    Activation and initialisation are dropped where the operation has no use for them.
    """
    stands_for: list[tuple[int, ...]] = [(0,)]
    kept: list[Node] = []
    for node in cell.nodes:
        fact = facts[node.operation]
        inputs = tuple(sorted(value for read in node.inputs for value in stands_for[read]))
        if fact.zero or not inputs:
            stands_for.append(())
        elif fact.identity:
            stands_for.append(inputs)
        else:
            activation = node.activation if fact.activated else None
            initialisation = node.initialisation if fact.weighted else None
            kept.append(Node(node.operation, inputs, activation, initialisation))
            stands_for.append((len(kept),))
    output = tuple(sorted(value for read in cell.output for value in stands_for[read]))
    return _without_dead(Cell(tuple(kept), output))


def _without_dead(cell: Cell) -> Cell:
    alive = set(cell.output)
    for position in range(len(cell.nodes) - 1, -1, -1):
        if position + 1 in alive:
            alive.update(cell.nodes[position].inputs)
    number = {value: i for i, value in enumerate([0, *sorted(alive - {0})])}
    nodes = tuple(
        Node(node.operation, tuple(number[v] for v in node.inputs), node.activation, node.initialisation)
        for position, node in enumerate(cell.nodes)
        if position + 1 in alive
    )
    return Cell(nodes, tuple(number[v] for v in cell.output))


def canonical_form(cell: Cell) -> str:
    """Return a string that two simplified cells share exactly when they are isomorphic.

    Colour refinement over both edge directions; classes that it cannot split are split by trying each member in turn
    and keeping the smallest description (individualisation and refinement, McKay 1981).
    """
    size = len(cell.nodes) + 1
    reads: list[Counter[int]] = [Counter(), *(Counter(node.inputs) for node in cell.nodes)]
    read_by: list[Counter[int]] = [Counter() for _ in range(size)]
    for value in range(size):
        for source, times in reads[value].items():
            read_by[source][value] = times
    leaves = Counter(cell.output)
    labels = ["input", *(node.label for node in cell.nodes)]
    start = _ranks([(labels[value], leaves[value]) for value in range(size)])
    return _smallest(start, labels, reads, read_by, leaves)


def _ranks(signatures: Sequence[object]) -> list[int]:
    order = {signature: rank for rank, signature in enumerate(sorted(set(signatures)))}  # type: ignore[type-var]
    return [order[signature] for signature in signatures]


def _refine(colours: list[int], reads: Sequence[Counter[int]], read_by: Sequence[Counter[int]]) -> list[int]:
    classes = len(set(colours))
    while classes < len(colours):
        colours = _ranks(
            [
                (
                    colours[value],
                    tuple(sorted((colours[other], times) for other, times in reads[value].items())),
                    tuple(sorted((colours[other], times) for other, times in read_by[value].items())),
                )
                for value in range(len(colours))
            ]
        )
        if len(set(colours)) == classes:
            break
        classes = len(set(colours))
    return colours


def _smallest(
    colours: list[int],
    labels: Sequence[str],
    reads: Sequence[Counter[int]],
    read_by: Sequence[Counter[int]],
    leaves: Counter[int],
) -> str:
    colours = _refine(colours, reads, read_by)
    sizes = Counter(colours)
    tied = next((colour for colour in sorted(sizes) if sizes[colour] > 1), None)
    if tied is None:
        order = sorted(range(len(colours)), key=colours.__getitem__)
        place = {value: i for i, value in enumerate(order)}  # colours may have gaps after a split; places have none
        rows = [[labels[v], sorted((place[o], t) for o, t in reads[v].items()), leaves[v]] for v in order]
        return json.dumps(rows)
    members = [value for value in range(len(colours)) if colours[value] == tied]
    # Twins (same inputs, same readers) are interchangeable: trying one of them is trying all.
    distinct = {(tuple(sorted(reads[v].items())), tuple(sorted(read_by[v].items()))): v for v in reversed(members)}
    forms = []
    for chosen in distinct.values():
        split = [2 * colour + (value != chosen and colour == tied) for value, colour in enumerate(colours)]
        forms.append(_smallest(split, labels, reads, read_by, leaves))
    return min(forms)
