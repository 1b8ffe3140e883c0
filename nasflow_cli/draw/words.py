"""A network in words: what stands in the boxes and captions of its drawing.

What all nodes of a cell have in common is said once, in the caption; a box says where its node differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd
from typing import TypeVar

from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.draw.boxes import PLAIN, TERMINAL, Box, Line, Look
from nasflow_cli.draw.svg import wrap

DOT = " \u00b7 "
TIMES = "\u00d7"
_TEXT_WIDTH = 190.0

KINDS: dict[str, tuple[tuple[str, ...], Look]] = {
    "convolution": (("conv",), Look(fill="#dae8fb", stroke="#3a70bd")),
    "pooling": (("pool",), Look(fill="#d8f1df", stroke="#2f8a55")),
    "attention": (("attention", "attn"), Look(fill="#fbdfe9", stroke="#bd4470")),
    "linear": (("linear", "dense", "mlp", "gated"), Look(fill="#e8dffa", stroke="#7654bd")),
    "skip or zero": (("skip", "identity", "none", "zero"), Look(fill="#eaedf1", stroke="#7b8794")),
    "other": ((), Look(fill="#fdebcf", stroke="#bd7b18")),
}
"""Kinds of operation, by what their names contain, and how each looks. The first that fits is taken."""

_T = TypeVar("_T", bound=Hashable)


def kind_of(operation: str) -> str:
    """Return the kind of an operation, judged by its name."""
    name = operation.lower()
    return next((kind for kind, (marks, _) in KINDS.items() if any(mark in name for mark in marks)), "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What most nodes of a cell have. `widths` are those of all blocks that use the cell, smallest first."""

    widths: tuple[int, ...] = ()
    activation: str | None = None
    initialisation: str | None = None

    @property
    def caption(self) -> list[str]:
        """All of it in words."""
        numbers = [str(width) for width in self.widths]
        widths = " or ".join([", ".join(numbers[:-1]), numbers[-1]] if len(numbers) > 1 else numbers)
        parts = [f"width {widths}" if widths else None, self.activation, self.initialisation]
        return [part for part in parts if part]


def common_of(cells: Iterable[Cell]) -> Common:
    """Return what the nodes of cells have in common that differ in nothing but their scale of widths."""
    cells = tuple(cells)
    nodes = cells[0].nodes
    return Common(
        widths=tuple(sorted({width for cell in cells if (width := _most(node.width for node in cell.nodes))})),
        activation=_most(node.activation for node in nodes if node.activation),
        initialisation=_most(node.initialisation for node in nodes if node.initialisation),
    )


def _most(values: Iterable[_T]) -> _T | None:
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else None


def cell_width(cell: Cell) -> int | None:
    """Return the width that most nodes of a cell have; None if it has no nodes."""
    return _most(node.width for node in cell.nodes)


def form_of(cell: Cell) -> Cell:
    """Return the cell on its smallest scale of widths: cells of equal form share a drawing."""
    scale = gcd(*(node.width for node in cell.nodes)) or 1
    return replace(cell, nodes=tuple(replace(node, width=node.width // scale) for node in cell.nodes))


def is_inline(cell: Cell) -> bool:
    """Whether a cell is so simple that it is drawn as a box in the chain: an identity or a single node."""
    nodes = [node.inputs for node in cell.nodes]
    return not cell.added and (nodes, cell.output) in (([], (0,)), ([(0,)], (cell.num_inputs,)))


def node_box(node: Node, common: Common) -> Box:
    """Return a node's box: its operation, then what differs from the cell's common width, activation and so on.

    The node is one of the cell whose width is the smallest of the common ones.
    """
    differences = [
        _width_difference(node, common),
        f"stride {node.stride}" if node.stride != 1 else "",
        node.activation if node.activation != common.activation else "",
        node.initialisation if node.initialisation != common.initialisation else "",
    ]
    lines = [Line(text=node.operation, size=13.0, bold=True)]
    lines += _details(differences, node)
    return Box(
        lines=tuple(lines),
        look=KINDS[kind_of(node.operation)][1],
        details=_tooltip(node, _width_difference(node, common)),
    )


def _width_difference(node: Node, common: Common) -> str:
    if node.width in common.widths[:1]:
        return ""
    if len(common.widths) == 1:
        return f"width {node.width}"
    return f"width {TIMES}{Fraction(node.width, common.widths[0])}"


def _details(facts: Iterable[str | None], node: Node) -> list[Line]:
    arguments = [f"{name} {_value(value)}" for name, value in node.arguments]
    lines = [Line(text=line) for line in wrap(filter(None, facts), _TEXT_WIDTH, 11.0, between=DOT)]
    small = wrap(arguments, _TEXT_WIDTH, 10.5, between=DOT)
    return lines + [Line(text=line, size=10.5, muted=True) for line in small]


def _value(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _tooltip(node: Node, width: str) -> tuple[str, ...]:
    facts = [width, f"stride {node.stride}", node.activation, node.initialisation]
    arguments = [f"{name} = {_value(value)}" for name, value in node.arguments]
    return (node.operation, *(fact for fact in facts if fact), *arguments)


def block_box(block: Block, badge: str, graph: NetworkGraph) -> Box:
    """Return a block's box in the chain: a badge that refers to its cell, or its one operation, and how many copies."""
    copies = f" {TIMES} {block.depth}" if block.depth != 1 else ""
    name = Line(text=block.name, size=10.5, muted=True)
    if badge:
        width = cell_width(block.cell)
        lines = [name, Line(text=f"cell {badge}{copies}", size=13.0, bold=True)]
        lines += [Line(text=f"width {width}")] if width else []
        return Box(lines=tuple(lines), look=PLAIN, badge=badge, copies=block.depth)
    if not block.cell.nodes:
        title = Line(text=f"identity{copies}", size=13.0, bold=True)
        return Box(lines=(name, title), look=KINDS["skip or zero"][1], copies=block.depth)
    (node,) = block.cell.nodes
    facts = [
        f"width {node.width}",
        f"stride {node.stride}" if node.stride != 1 else "",
        node.activation if node.activation != graph.activation else "",
        node.initialisation if node.initialisation != graph.initialisation else "",
    ]
    lines = [name, Line(text=f"{node.operation}{copies}", size=13.0, bold=True)]
    lines += _details(facts, node)
    look = KINDS[kind_of(node.operation)][1]
    return Box(lines=tuple(lines), look=look, details=_tooltip(node, f"width {node.width}"), copies=block.depth)


def head_box(graph: NetworkGraph) -> Box:
    """Return the box of what follows the last block: projection, activation, pooling, dropout and classifier."""
    steps = [f"projection to {graph.head_width}"] if graph.head_width else []
    steps += [graph.activation] if graph.head_activated else []
    steps += [f"dropout {graph.dropout:g}"] if graph.dropout else []
    lines = [Line(text="head", size=10.5, muted=True), Line(text="classifier", size=13.0, bold=True)]
    lines += [Line(text=line) for line in wrap(steps, _TEXT_WIDTH, 11.0, between=DOT)]
    return Box(lines=tuple(lines), look=KINDS["linear"][1])


def terminal(title: str, note: str = "") -> Box:
    """Return a rounded box where values come in or go out."""
    lines = (Line(text=title, size=12.0, bold=True), *([Line(text=note, size=10.5, muted=True)] if note else ()))
    return Box(lines=lines, look=TERMINAL, min_width=84.0)


def input_titles(num_inputs: int) -> list[str]:
    """Return what a cell's inputs are called, nearest first."""
    if num_inputs == 1:
        return ["input"]
    return ["previous cell", "cell before it", *(f"{number} cells before it" for number in range(2, num_inputs))][
        :num_inputs
    ]


def output_note(cell: Cell) -> str:
    """Return how the values that leave a cell are joined, in words; empty where there is just one."""
    if not cell.output and not cell.added:
        return "nothing reaches it"
    if cell.join == "concat" and not cell.added:
        return joined(cell.join, cell.output)
    return joined("sum", (0,) * (min(len(cell.output), 1) if cell.join == "concat" else len(cell.output)) + cell.added)


def joined(join: str, values: Sequence[int]) -> str:
    """Return the name of a join of some values; empty for a single one."""
    return f"{join} of {len(values)}" if len(values) > 1 else ""


def conventions(graph: NetworkGraph) -> list[str]:
    """Return the line under the title: what holds wherever a box says nothing else."""
    order = "activations before convolutions" if graph.order == "before" else "activations after convolutions"
    return [graph.activation, graph.initialisation, order]
