"""The network as a graph: what a space decodes to, and what builder, cost model, predictor, drawing and key read.

A graph is a chain of blocks; each block repeats a cell; a cell is a directed acyclic graph of operations. The first
`num_inputs` values of a cell are what the cells before it gave, the nearest first; node i computes value
`num_inputs + i` from the sum of its inputs. Widths and strides stand on the nodes, so that nothing has to be inferred.
`simplify` and `key` know two algebraic facts, told to them by the operations' registrations: an identity passes its
input on where it changes no shape, a zero passes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.canonical import canonical_labels

Order = Literal["before", "after"]
"""Whether an activation stands before the convolution (and its norm) or after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFacts:
    """What the structure of computation depends on: declared where an operation is registered.

    `adapts`: has no weights where shapes agree, but a projection with weights and an activation where the width changes
    (an identity: where the stride is 2 as well). `takes`: "images", "vectors" or "any".
    """

    identity: bool = False
    zero: bool = False
    activated: bool = False
    weighted: bool = False
    adapts: bool = False
    takes: Literal["images", "vectors", "any"] = "images"

    def projects(self, in_width: int, width: int, stride: int) -> bool:
        """Whether the operation brings a projection of its own at these shapes."""
        return self.adapts and (in_width != width or (self.identity and stride != 1))


@dataclass(frozen=True, slots=True)
class Node:
    """An operation on the sum of some values, with the width (channels or features) and stride that it gives them.

    Activation and initialisation are None where it has no use for them. `arguments` are sorted by name.
    """

    operation: str
    inputs: tuple[int, ...]
    width: int
    stride: int = 1
    activation: str | None = None
    initialisation: str | None = None
    arguments: tuple[tuple[str, Value], ...] = ()

    @property
    def label(self) -> str:
        """What the node does, without where it stands and what shape it gives."""
        arguments = ",".join(f"{name}={value}" for name, value in self.arguments)
        what = f"{self.operation}({arguments})" if arguments else self.operation
        return f"{what}/{self.activation}/{self.initialisation}"


@dataclass(frozen=True, slots=True)
class Cell:
    """Nodes in topological order, and the values that leave the cell: summed or concatenated, then `added` ones added.

    With `cut`, a node reads only the first channels of inner values that are wider than it is (NAS-Bench-101).
    """

    nodes: tuple[Node, ...]
    output: tuple[int, ...]
    num_inputs: int = 1
    join: Literal["sum", "concat"] = "sum"
    added: tuple[int, ...] = ()
    cut: bool = False

    def __post_init__(self) -> None:
        known = self.num_inputs
        for node in self.nodes:
            for value in node.inputs:
                if not 0 <= value < known:
                    raise ValueError(f"node {known - self.num_inputs} reads a value that is not computed before it")
            known += 1
        for value in self.output + self.added:
            if not 0 <= value < known:
                raise ValueError("the cell's output reads a value that is not computed")

    @property
    def passes_on(self) -> bool:
        """Whether the cell gives its input as it is."""
        return not self.nodes and self.output == (0,) and not self.added

    def widths(self, inputs: Sequence[int]) -> list[int]:
        """The width of every value, from the widths of the inputs, nearest first."""
        return [*inputs[: self.num_inputs], *(node.width for node in self.nodes)]

    def at_width(self, width: int) -> Cell:
        """The cell with all of its nodes at another width."""
        nodes = [
            Node(node.operation, node.inputs, width, node.stride, node.activation, node.initialisation, node.arguments)
            for node in self.nodes
        ]
        return Cell(tuple(nodes), self.output, self.num_inputs, self.join, self.added, self.cut)

    def in_width(self, node: Node, widths: Sequence[int]) -> int:
        """The width of the sum that a node reads."""
        narrowest = min([widths[value] for value in node.inputs], default=node.width)
        inner = self.cut and all(value >= self.num_inputs for value in node.inputs)
        return min(narrowest, node.width) if inner else narrowest

    def out_width(self, inputs: Sequence[int]) -> int:
        """The width of what leaves the cell."""
        if not self.output:
            return self._width(self.added[0], inputs) if self.added else inputs[0]
        parts = self.output if self.join == "concat" else self.output[:1]
        return sum([self._width(value, inputs) for value in parts])

    def _width(self, value: int, inputs: Sequence[int]) -> int:
        return inputs[value] if value < self.num_inputs else self.nodes[value - self.num_inputs].width

    def out_stride(self, inputs: Sequence[int]) -> int:
        """The total stride of what leaves the cell, from those of the inputs, nearest first."""
        leaving, stride = self.output or self.added, 1
        value = leaving[0] if leaving else 0
        while value >= self.num_inputs:  # all ways to a value have one stride
            node = self.nodes[value - self.num_inputs]
            stride *= node.stride
            value = node.inputs[0] if node.inputs else 0
        return stride * inputs[value]


@dataclass(frozen=True, slots=True)
class Block:
    """`depth` copies of a cell, one after the other; the widths of what they read may differ."""

    name: str
    cell: Cell
    depth: int = 1


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """A whole network: blocks, then a head.

    The head is a 1x1 projection to `head_width` (0: none), norm and activation (None: neither), global average
    pooling, dropout and a linear classifier. `flaw` says what makes the graph no member, if anything does.
    `simplified` is the graph without what cannot matter, when this one keeps that on purpose.
    """

    blocks: tuple[Block, ...]
    activation: str | None
    initialisation: str
    dropout: float = 0.0
    head_width: int = 0
    order: Order = "before"
    flaw: str | None = None
    simplified: NetworkGraph | None = field(default=None, compare=False, repr=False)

    @property
    def is_connected(self) -> bool:
        """Whether anything of the input reaches the classifier."""
        return all(block.cell.output or block.cell.added for block in (self.simplified or self).blocks)

    @property
    def fault(self) -> str | None:
        """Why the graph is nothing to train, whatever the constraints say: its flaw, or that nothing passes through."""
        unconnected = None if self.is_connected else "nothing of the input reaches the classifier"
        return self.flaw or unconnected

    def key(self) -> str:
        """Content hash of what the network computes, equal in every process. 16 hexadecimal digits.

        Isomorphic cells, the order of nodes and inputs, dead branches and the way in which equal blocks are grouped do
        not matter. Only exact isomorphism counts: a shared node is not two nodes with equal inputs, which have
        weights of their own. The graph, or its `simplified` form, must be simplified.
        """
        graph = self.simplified or self
        skips = all(block.cell.num_inputs == 1 for block in graph.blocks)
        blocks: list[str] = []
        for block in graph.blocks:
            if not (block.cell.output or block.cell.added):
                blocks = ["zero"]
            elif not (skips and block.cell.passes_on):
                blocks.extend([canonical_form(block.cell)] * block.depth)
        value = [blocks, graph.activation, graph.initialisation, graph.dropout]
        value += [graph.head_width, graph.order]
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def canonical_form(cell: Cell) -> str:
    """Return a string that two simplified cells share exactly when they are isomorphic."""
    shapes = {(node.width, node.stride) for node in cell.nodes}
    # One shape in all of the cell is said once, so that the same cell at another width is the same look-up.
    labels = [node.label if len(shapes) == 1 else f"{node.label}/{node.width}/{node.stride}" for node in cell.nodes]
    labels = [f"input{value}" for value in range(cell.num_inputs)] + labels
    reads = ((),) * cell.num_inputs + tuple(node.inputs for node in cell.nodes)
    kind = f"{cell.join}{' cut' * cell.cut} {sorted(shapes) if len(shapes) == 1 else ''}"
    return f"{kind} {canonical_labels(tuple(labels), reads, (cell.output, cell.added))}"


def simplify(cell: Cell, facts: Mapping[str, OperationFacts], inputs: Sequence[int] = ()) -> Cell:
    """Return the cell without identities, zeros, and nodes that nothing reads; sums keep their multiplicities.

    `inputs` are the widths of the cell's inputs, nearest first; without them, they are those of the nodes that read
    them. Activation and initialisation are dropped where the operation has no use for them.
    """
    widths = cell.widths(inputs) if inputs else []
    stands_for: list[tuple[int, ...]] = [(value,) for value in range(cell.num_inputs)]
    kept: list[Node] = []
    for node in cell.nodes:
        fact = facts[node.operation]
        reads = _sum_of(node.inputs, stands_for)
        if fact.zero or not reads:
            stands_for.append(())
            continue
        in_width = cell.in_width(node, widths) if inputs and fact.adapts else node.width
        projects = fact.projects(in_width, node.width, node.stride)
        # The sum of several values cannot be replaced by its terms where it is one part of a concatenation.
        part = cell.join == "concat" and len(reads) > 1 and len(stands_for) in cell.output
        if fact.identity and not projects and not part and _keeps_shape(cell, node, widths):
            stands_for.append(reads)
            continue
        activation = node.activation if fact.activated or projects else None
        initialisation = node.initialisation if fact.weighted or projects else None
        same = (reads, activation, initialisation) == (node.inputs, node.activation, node.initialisation)
        kept.append(
            node
            if same
            else Node(node.operation, reads, node.width, node.stride, activation, initialisation, node.arguments)
        )
        stands_for.append((cell.num_inputs + len(kept) - 1,))
    output, added = _sum_of(cell.output, stands_for), _sum_of(cell.added, stands_for)
    return _without_dead(Cell(tuple(kept), output, cell.num_inputs, cell.join, added, cell.cut))


def _sum_of(values: tuple[int, ...], stands_for: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The terms of a sum, sorted, when each value stands for some of them."""
    if len(values) == 1:
        return stands_for[values[0]]
    return tuple(sorted([term for value in values for term in stands_for[value]]))


def _keeps_shape(cell: Cell, node: Node, widths: Sequence[int]) -> bool:
    """Whether a node that computes nothing gives what it reads. Without `widths`, its inputs have its own."""
    if node.stride != 1:
        return False
    if not widths:
        return True
    # What reads only the first channels of a wider value does not give that value.
    uncut = not cell.cut or all(widths[value] == node.width for value in node.inputs)
    return uncut and cell.in_width(node, widths) == node.width


def _without_dead(cell: Cell) -> Cell:
    first = cell.num_inputs
    alive = {*cell.output, *cell.added}
    for position in range(len(cell.nodes) - 1, -1, -1):
        if first + position in alive:
            alive.update(cell.nodes[position].inputs)
    alive.update(range(first))
    if len(alive) == first + len(cell.nodes):
        return cell
    number = {value: i for i, value in enumerate(sorted(alive))}
    nodes = tuple(
        Node(
            node.operation,
            tuple(number[v] for v in node.inputs),
            node.width,
            node.stride,
            node.activation,
            node.initialisation,
            node.arguments,
        )
        for position, node in enumerate(cell.nodes)
        if first + position in alive
    )
    output, added = (tuple(number[v] for v in values) for values in (cell.output, cell.added))
    return Cell(nodes, output, first, cell.join, added, cell.cut)
