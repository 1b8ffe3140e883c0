"""The drawing of one cell: inputs at the top, a box a node, the output at the bottom. Arrows into a box are summed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nasflow_cli.core.graph import Block, Cell
from nasflow_cli.draw.boxes import JOIN, MUTED, PANEL, RULE, Box, Line, Picture, arrow, badge, badge_width
from nasflow_cli.draw.diagram import Diagram, Layout, Route
from nasflow_cli.draw.svg import element, wrap
from nasflow_cli.draw.words import (
    DOT,
    TIMES,
    Common,
    cell_width,
    common_of,
    input_titles,
    joined,
    node_box,
    output_note,
    terminal,
)

Arrange = Callable[[Diagram], Layout]
_MARGIN, _MIN_WIDTH = 20.0, 210.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """A cell's boxes in topological order, and how often each arrow's value is read. `residual` arrows are dashed."""

    boxes: tuple[Box, ...]
    arrows: dict[tuple[int, int], int]
    residual: frozenset[tuple[int, int]]


def wiring(cell: Cell, common: Common) -> Wiring:
    """Return the boxes and arrows of a cell. Values that are added after a concatenation pass by a box for it."""
    boxes = [terminal(title) for title in input_titles(cell.num_inputs)]
    boxes += [node_box(node, common) for node in cell.nodes]
    arrows = Counter((value, cell.num_inputs + at) for at, node in enumerate(cell.nodes) for value in node.inputs)
    leaving = cell.output
    if cell.join == "concat" and cell.added and len(cell.output) > 1:
        arrows.update((value, len(boxes)) for value in cell.output)
        leaving = (len(boxes),)
        boxes.append(Box(lines=(Line(text=joined(cell.join, cell.output)),), look=JOIN))
    last = len(boxes)
    boxes.append(terminal("output", output_note(cell)))
    arrows.update((value, last) for value in leaving + cell.added)
    residual = frozenset((value, last) for value in cell.added if value not in leaving)
    return Wiring(boxes=tuple(boxes), arrows=dict(arrows), residual=residual)


def cell_picture(letter: str, blocks: Sequence[Block], arrange: Arrange) -> Picture:
    """Return the panel of a cell that some blocks use: its letter, what its nodes have in common, who uses it."""
    cell = min((block.cell for block in blocks), key=lambda cell: cell_width(cell) or 0)
    common = common_of(block.cell for block in blocks)
    wired = wiring(cell, common)
    diagram = Diagram(
        boxes=tuple(box.size for box in wired.boxes), arrows=tuple(wired.arrows), num_top=max(cell.num_inputs, 1)
    )
    layout = arrange(diagram)
    width = max(layout.width, _MIN_WIDTH)
    names = [f"in {blocks[0].name}", *(block.name for block in blocks[1:])]
    captions = wrap(common.caption, width, 11.0, between=DOT) + wrap(names, width, 11.0, between=DOT)
    lines = [Line(text=caption, muted=True) for caption in captions]
    width = max([width, *(line.width for line in lines)]) + 2 * _MARGIN
    header = 36.0 + sum(line.height for line in lines) + 14.0
    height = _MARGIN + header + layout.height + _MARGIN

    def paint(left: float, top: float) -> str:
        parts = [element("rect", x=left, y=top, width=width, height=height, rx=10.0, fill=PANEL, stroke=RULE)]
        parts.append(_header(letter, lines, left + _MARGIN, top + _MARGIN))
        shift = (left + (width - layout.width) / 2, top + _MARGIN + header)
        parts.append(_graph(wired, layout, shift, cell.num_inputs))
        return element("g", "".join(parts), data_cell=letter)

    return Picture(width=width, height=height, paint=paint)


def _header(letter: str, lines: Sequence[Line], left: float, top: float) -> str:
    parts = [badge(letter, (left + badge_width(letter) / 2, top + 9.0))]
    title = Line(text=f"cell {letter}", size=15.0, bold=True)
    parts.append(title.paint(left + badge_width(letter) + 8.0, top + 14.0, "#1f2933", "start"))
    baseline = top + 36.0
    for line in lines:
        parts.append(line.paint(left, baseline, MUTED, "start"))
        baseline += line.height
    return "".join(parts)


def _graph(wired: Wiring, layout: Layout, shift: tuple[float, float], num_inputs: int) -> str:
    parts = []
    for (ends, times), route in zip(wired.arrows.items(), layout.routes, strict=True):
        moved: Route = tuple((x + shift[0], y + shift[1]) for x, y in route)
        label = f"{TIMES}{times}" if times > 1 else ""
        tail, head = ends
        parts.append(arrow(moved, dashed=ends in wired.residual, label=label, data_arrow=f"{tail} {head}"))
    for value, (box, centre) in enumerate(zip(wired.boxes, layout.centres, strict=True)):
        place = (centre[0] + shift[0], centre[1] + shift[1])
        parts.append(box.paint(place, data_value=str(value), data_kind="node" if value >= num_inputs else "input"))
    return "".join(parts)
