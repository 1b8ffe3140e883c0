"""Cells: which edges and slots a described cell can have, how one is wired, and the shapes of its nodes.

A value's number is its name: inputs come first, then the nodes, in order. Pure functions of a cell's description; what
is chosen comes in through `read`. Wirings and shapes are kept: members of a space share them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.canonical import refined_colours
from nasflow_cli.core.graph import Cell, Node, OperationFacts, simplify
from nasflow_cli.core.space_config import CellConfig

Read = Callable[[str], Value]


def cell_edges(config: CellConfig, num_nodes: int) -> list[tuple[int, int]]:
    """The edges (from, to) that a cell of so many nodes can have, those to the output left out."""
    first = config.inputs
    return [(i, j) for j in range(first, first + num_nodes) for i in edges_into(config, j)]


def edges_into(config: CellConfig, node: int) -> range:
    """The values that a node can read."""
    return range(node - 1 if config.edges == "chain" and node > config.inputs else 0, node)


def is_searched(config: CellConfig, node: int) -> bool:
    """Whether each edge into a node is searched. A node with one value to read reads it."""
    return config.edges == "free" and node > 1


def choices_of(config: CellConfig, node: int) -> list[str]:
    """What a node that reads a fixed number of values may choose, as in "0+2"."""
    size = min(int(config.edges), node)
    return ["+".join(map(str, chosen)) for chosen in itertools.combinations(range(node), size)]


def slots_of(prefix: str, config: CellConfig, num_nodes: int) -> Iterator[tuple[str, int]]:
    """The names of a cell's slots, each with the node that it stands on or leads to."""
    for j in range(config.inputs, config.inputs + num_nodes):
        if config.slots == "nodes":
            yield f"{prefix}.{j}", j
        elif isinstance(config.edges, int):
            yield from ((f"{prefix}.{j}.{n}", j) for n in range(min(config.edges, j)))
        else:
            yield from ((f"{prefix}.{i}-{j}", j) for i in edges_into(config, j))


def project_slot(prefix: str) -> str:
    """The slot of whatever brings a cell's inputs to its shape."""
    return f"{prefix}.project"


def adapt_slot(prefix: str) -> str:
    """Where a skip stands that no one chose: it brings an input to a shape, or sums up what is concatenated."""
    return f"{prefix}.adapt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The live slots of a cell: `slots` are (name, values read). What leaves it is joined, then `added` is added."""

    slots: tuple[tuple[str, tuple[int, ...]], ...]
    output: tuple[int, ...]
    added: tuple[int, ...]

    @property
    def num_edges(self) -> int:
        """Number of edges of a cell with operations on its nodes, those to the output included."""
        return sum(len(reads) for _, reads in self.slots) + len(self.output) + len(self.added)


def wire(prefix: str, config: CellConfig, read: Read) -> Wiring:
    """Read a cell's structure."""
    first, num_nodes = config.inputs, int(read(f"{prefix}.nodes"))
    reads = tuple(_sources(prefix, config, j, read) for j in range(first, first + num_nodes))
    ends, added = _ends(prefix, config, reads, read)
    return _wired(_form(prefix, config), reads, tuple(ends), added)


@dataclass(frozen=True, slots=True)
class _Form:
    """What of a cell's description its wiring and its shapes depend on. Can be hashed, unlike the description."""

    prefix: str
    num_inputs: int
    slots: str
    """`nodes`, `edges` (named by both ends), or `reads` (named by the node and the number of the value it reads)."""
    join: str
    project: str | None


def _form(prefix: str, config: CellConfig) -> _Form:
    slots = "reads" if config.slots == "edges" and isinstance(config.edges, int) else config.slots
    return _Form(prefix, config.inputs, slots, config.join, config.project.per if config.project is not None else None)


@lru_cache(maxsize=20_000)
def _wired(form: _Form, reads: tuple[tuple[int, ...], ...], ends: tuple[int, ...], added: tuple[int, ...]) -> Wiring:
    """The live slots of a cell whose nodes read these values, and which these nodes leave. Many members share it."""
    prefix, first = form.prefix, form.num_inputs
    slots: list[Node] = []
    stands_for: list[tuple[int, ...]] = [(value,) for value in range(first)]
    for j, sources in enumerate(reads, start=first):
        live = [(n, i) for n, i in enumerate(sources) if stands_for[i]]
        if form.slots != "nodes":
            for n, i in live:
                name = f"{prefix}.{j}.{n}" if form.slots == "reads" else f"{prefix}.{i}-{j}"
                slots.append(Node(name, stands_for[i], 0))
            end = first + len(slots)
            stands_for.append(tuple(range(end - len(live), end)))
        elif live:
            slots.append(Node(f"{prefix}.{j}", tuple(value for _, i in live for value in stands_for[i]), 0))
            stands_for.append((first + len(slots) - 1,))
        else:
            stands_for.append(())
    output: tuple[int, ...] = ()
    for j in ends:
        if form.join != "sum" and len(stands_for[j]) > 1:  # what is concatenated is the node's sum, not its terms
            slots.append(Node(adapt_slot(prefix), stands_for[j], 0))
            output += (first + len(slots) - 1,)
        else:
            output += stands_for[j]
    cell = simplify(
        Cell(tuple(slots), output, first, "concat", added), {node.operation: OperationFacts() for node in slots}
    )
    return Wiring(
        slots=tuple((node.operation, node.inputs) for node in cell.nodes), output=cell.output, added=cell.added
    )


def _sources(prefix: str, config: CellConfig, node: int, read: Read) -> tuple[int, ...]:
    if isinstance(config.edges, int):
        return tuple([int(value) for value in str(read(f"{prefix}.{node}.inputs")).split("+")])
    edges = edges_into(config, node)
    if not is_searched(config, node):
        return tuple(edges)
    return tuple([i for i in edges if read(f"{prefix}.{i}-{node}.edge")])


def _ends(
    prefix: str, config: CellConfig, reads: Sequence[Sequence[int]], read: Read
) -> tuple[list[int], tuple[int, ...]]:
    """The nodes that leave the cell, and the inputs that are added to them."""
    nodes = list(range(config.inputs, config.inputs + len(reads)))
    if config.output == "free":
        added = tuple(i for i in range(config.inputs) if read(f"{prefix}.{i}-out.edge"))
        return [j for j in nodes if read(f"{prefix}.{j}-out.edge")], added
    added = (0,) if read(f"{prefix}.residual") else ()
    if config.output == "last":
        return nodes[-1:], added
    read_by_some = {i for sources in reads for i in sources}
    return [j for j in nodes if config.output == "all" or j not in read_by_some], added


@dataclass(frozen=True, slots=True)
class Shape:
    """`width` in channels or features; `stride`: how many times coarser than the input of the network."""

    width: int
    stride: int


def placed(
    prefix: str, config: CellConfig, wiring: Wiring, labels: Mapping[str, str], inputs: Sequence[Shape], target: Shape
) -> Cell:
    """The wired cell with the widths and strides that give `target`, not simplified; operations are names of slots.

    `labels` say what stands in each slot.
    """
    # Only where a width is shared out does a shape depend on what stands where.
    words = tuple(labels[name] for name, _ in wiring.slots) if config.join == "split" else ()
    return _placed(_form(prefix, config), wiring, words, tuple(inputs[: config.inputs]), target)


@lru_cache(maxsize=20_000)
def _placed(form: _Form, wiring: Wiring, words: tuple[str, ...], inputs: tuple[Shape, ...], target: Shape) -> Cell:
    return _Placing(form, inputs, target).cell(wiring, words)


class _Placing:
    """Gives the nodes of one wired cell their widths and strides, and puts projections where shapes do not agree."""

    def __init__(self, form: _Form, inputs: Sequence[Shape], target: Shape) -> None:
        self.form = form
        self.target = target
        self.shapes = list(inputs)
        self.nodes: list[Node] = []
        self._adapted: dict[tuple[int, int], int] = {}

    def cell(self, wiring: Wiring, words: Sequence[str]) -> Cell:
        """The cell. `words` say what stands in each slot, where the width is shared out."""
        form, first = self.form, self.form.num_inputs
        widths = self._widths(wiring, words)
        place = list(range(first))
        if form.project == "cell":
            place = [self._project_input(i) for i in range(first)]
        sources = set(place)
        for (name, reads), width in zip(wiring.slots, widths, strict=True):
            place.append(self._slot(name, [place[value] for value in reads], sources, width))
        out = sum(widths[v - first] for v in wiring.output) if form.join == "concat" else self.target.width
        output = tuple(self._reach(place[v], sources, self.target.width) for v in wiring.output)
        added = tuple(self._reach(place[v], sources, out or self.target.width) for v in wiring.added)
        if form.join == "sum":
            return Cell(tuple(self.nodes), output + added, first)
        return Cell(tuple(self.nodes), output, first, "concat", added, form.join == "split")

    def _widths(self, wiring: Wiring, words: Sequence[str]) -> list[int]:
        """The width of each slot: the cell's, or its share of it (Ying et al. 2019, section 2.2)."""
        total, first = self.target.width, self.form.num_inputs
        if self.form.join != "split" or not wiring.output:
            return [total] * len(wiring.slots)
        share, rest = divmod(total, len(wiring.output))
        # What does not divide goes to the first ones in an order that relabelling the nodes does not change.
        names = [*(f"input{i}" for i in range(first)), *words]
        reads = ((),) * first + tuple(reads for _, reads in wiring.slots)
        colours = refined_colours(tuple(names), reads, (wiring.output, wiring.added))
        order = sorted(wiring.output, key=lambda value: (colours[value], value))
        widths = {value: share + (rank < rest) for rank, value in enumerate(order)}
        for value in range(first + len(wiring.slots) - 1, first - 1, -1):
            if value not in widths:
                readers = [first + n for n, (_, reads) in enumerate(wiring.slots) if value in reads]
                widths[value] = max(widths[reader] for reader in readers)
        return [widths[first + n] for n in range(len(wiring.slots))]

    def _add(self, name: str, reads: tuple[int, ...], width: int, stride: int) -> int:
        self.nodes.append(Node(name, reads, width, stride))
        self.shapes.append(Shape(width, self.shapes[reads[0]].stride * stride))
        return len(self.shapes) - 1

    def _project_input(self, value: int) -> int:
        stride = self.shapes[0].stride // self.shapes[value].stride
        name = project_slot(self.form.prefix) if stride == 1 else adapt_slot(self.form.prefix)
        return self._add(name, (value,), self.target.width, stride)

    def _slot(self, name: str, reads: list[int], sources: set[int], width: int) -> int:
        if (
            self.form.project != "edge"
            and sources.issuperset(reads)
            and len({self.shapes[value] for value in reads}) == 1
        ):
            return self._add(name, tuple(reads), width, self.target.stride // self.shapes[reads[0]].stride)
        return self._add(name, tuple(self._reach(value, sources, width) for value in reads), width, 1)

    def _reach(self, value: int, sources: set[int], width: int) -> int:
        """The value, through a projection if it is an input of another shape, or if every edge has one."""
        if value not in sources:
            return value
        shape = self.shapes[value]
        stride = self.target.stride // shape.stride
        if self.form.project == "edge":
            return self._add(project_slot(self.form.prefix), (value,), width, stride)
        if shape == Shape(width, self.target.stride):
            return value
        if (value, width) not in self._adapted:
            self._adapted[value, width] = self._add(adapt_slot(self.form.prefix), (value,), width, stride)
        return self._adapted[value, width]
