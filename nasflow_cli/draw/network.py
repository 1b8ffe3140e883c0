"""A network as a picture: its chain of blocks in a column, and every distinct cell in detail beside it.

The same network gives the same bytes. Refuses nothing that a `NetworkGraph` can be; names are shown as they are, never
taken as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from nasflow_cli.core.graph import Block, Cell, NetworkGraph
from nasflow_cli.draw.boxes import ARROW, GROUND, INK, MUTED, Box, Line, Picture, arrange, arrow
from nasflow_cli.draw.cell import Arrange, cell_picture
from nasflow_cli.draw.diagram import Diagram, Layout, Route, straight
from nasflow_cli.draw.graphviz import graphviz
from nasflow_cli.draw.layered import layered
from nasflow_cli.draw.svg import FONT, element, number, tooltip, wrap
from nasflow_cli.draw.words import DOT, KINDS, block_box, conventions, form_of, head_box, is_inline, kind_of, terminal

_MARGIN, _GAP, _PAGE_WIDTH, _MIN_WIDTH = 28.0, 24.0, 1180.0, 420.0
_CHAIN_GAP, _COLUMN_GAP, _COLUMN_LENGTH = 28.0, 56.0, 14


def network_svg(
    graph: NetworkGraph, title: str, notes: Sequence[str] = (), *, layout: Literal["own", "graphviz"] = "own"
) -> str:
    """Return a drawing of a network as the text of an SVG document, sizes in pixels.

    `notes` are lines under the title. With layout "graphviz" the program `dot` places the nodes of cells, where it is
    found and answers; otherwise, and by default, we place them ourselves. Raises ValueError for another layout.
    """
    if layout not in ("own", "graphviz"):
        raise ValueError(f'no layout "{layout}": use "own" or "graphviz"')
    letters = _letters(graph)
    cells = _cells(graph, letters, _by_graphviz if layout == "graphviz" else layered)
    chain = _chain(graph, letters)
    beside = arrange(cells, max(_PAGE_WIDTH - chain.width - 2 * _MARGIN, 0.0), _GAP)
    body = arrange([chain, beside], float("inf"), 2 * _GAP) if cells else chain
    width = max(body.width, _MIN_WIDTH)
    lines = [Line(text=line, size=19.0, bold=True) for line in wrap(title.split(), width, 19.0, bold=True)]
    lines += [Line(text=line, size=12.0) for note in notes for line in wrap(note.split(), width, 12.0)]
    defaults = wrap(conventions(graph), width, 12.0, between=DOT)
    lines += [Line(text=line, size=12.0, muted=True) for line in defaults]
    legend = _legend(graph, width)
    return _page(title, [_heading(lines), legend, body])


def _by_graphviz(diagram: Diagram) -> Layout:
    return graphviz(diagram) or layered(diagram)


def _letters(graph: NetworkGraph) -> dict[Cell, str]:
    """Return a letter for the form of every cell that is drawn in detail: A, B, ..., Z, AA, AB, ..."""
    forms = dict.fromkeys(form_of(block.cell) for block in graph.blocks if not is_inline(block.cell))
    return {form: _letter(at) for at, form in enumerate(forms)}


def _letter(at: int) -> str:
    last = chr(ord("A") + at % 26)
    return _letter(at // 26 - 1) + last if at >= 26 else last


def _cells(graph: NetworkGraph, letters: dict[Cell, str], arrange: Arrange) -> list[Picture]:
    blocks: dict[str, list[Block]] = {letter: [] for letter in letters.values()}
    for block in graph.blocks:
        letter = letters.get(form_of(block.cell))
        if letter:
            blocks[letter].append(block)
    return [cell_picture(letter, users, arrange) for letter, users in blocks.items()]


def _chain(graph: NetworkGraph, letters: dict[Cell, str]) -> Picture:
    """Return the blocks from input to classes, in columns of equal length where there are many."""
    boxes = [terminal("input"), *(block_box(b, letters.get(form_of(b.cell), ""), graph) for b in graph.blocks)]
    boxes += [head_box(graph), terminal("classes")]
    num_columns = -(-len(boxes) // _COLUMN_LENGTH)
    length = -(-len(boxes) // num_columns)
    columns = [boxes[at : at + length] for at in range(0, len(boxes), length)]
    width = max(box.size[0] for box in boxes)
    height = max(sum(box.size[1] + _CHAIN_GAP + _stack(box) for box in column) for column in columns) - _CHAIN_GAP

    def paint(left: float, top: float) -> str:
        parts: list[str] = []
        leaves: tuple[float, float] | None = None
        for number_, column in enumerate(columns):
            x, y = left + width / 2 + number_ * (width + _COLUMN_GAP), top
            for at, box in enumerate(column):
                if leaves:
                    parts.append(arrow(_link(leaves, (x, y), around=at == 0)))
                size = box.size[1]
                wide = 0.0 if at + number_ == 0 or box is boxes[-1] else width
                parts.append(box.paint((x, y + size / 2), wide, data_block=str(number_ * length + at)))
                leaves = (x, y + size + _stack(box))
                y += size + _stack(box) + _CHAIN_GAP
        return element("g", "".join(parts), data_part="chain")

    total = len(columns) * (width + _COLUMN_GAP) - _COLUMN_GAP
    return Picture(width=total + 8.0, height=height, paint=paint)


def _stack(box: Box) -> float:
    """How far the cards behind a box stand out below it."""
    return 4.0 * (min(box.copies, 3) - 1)


def _link(start: tuple[float, float], end: tuple[float, float], *, around: bool) -> Route:
    """Return the way to the next box: down, or over to the top of the next column."""
    if not around:
        return straight(start, end)
    middle, low, high = (start[0] + end[0]) / 2, start[1] + 12.0, end[1] - 16.0
    corners = [start, (start[0], low), (middle, low), (middle, high), (end[0], high), end]
    route: list[tuple[float, float]] = [start]
    for a, b in pairwise(corners):
        route.extend(straight(a, b)[1:])
    return tuple(route)


def _heading(lines: Sequence[Line]) -> Picture:
    def paint(left: float, top: float) -> str:
        parts = []
        for line in lines:
            top += line.height
            parts.append(line.paint(left, top - line.size * 0.34, MUTED if line.muted else INK, "start"))
        return "".join(parts)

    return Picture(width=max(line.width for line in lines), height=sum(line.height for line in lines), paint=paint)


def _legend(graph: NetworkGraph, width: float) -> Picture:
    """Return what the colours that occur mean, and the dashes if there are any."""
    used = {kind_of(node.operation) for block in graph.blocks for node in block.cell.nodes}
    used |= {"skip or zero" for block in graph.blocks if is_inline(block.cell) and not block.cell.nodes}
    items = [_legend_item(kind) for kind in KINDS if kind in used]
    if any(block.cell.added for block in graph.blocks):
        items.append(_legend_item("added to the output"))
    return arrange(items, width, 18.0)


def _legend_item(words: str) -> Picture:
    line = Line(text=words, muted=True)

    def paint(left: float, top: float) -> str:
        if words in KINDS:
            look = KINDS[words][1]
            mark = element(
                "rect", x=left, y=top + 1.0, width=18.0, height=13.0, rx=3.0, fill=look.fill, stroke=look.stroke
            )
        else:
            mark = element("path", d=f"M{left:.1f} {top + 7.5:.1f}h20", stroke=ARROW, stroke_dasharray="5 3.5")
        return mark + line.paint(left + 25.0, top + 11.5, MUTED, "start")

    return Picture(width=25.0 + line.width, height=16.0, paint=paint)


def _page(title: str, parts: Sequence[Picture]) -> str:
    """Return the document: parts below each other on a white ground."""
    width = max(part.width for part in parts) + 2 * _MARGIN
    height = _MARGIN
    painted = [tooltip([title])]
    for part, gap in zip(parts, (12.0, 26.0, _MARGIN), strict=True):
        painted.append(part.paint(_MARGIN, height))
        height += part.height + gap
    size = {"width": number(width), "height": number(height), "viewBox": f"0 0 {number(width)} {number(height)}"}
    painted.insert(1, element("rect", x=0, y=0, width=width, height=height, fill=GROUND))
    return element(
        "svg",
        "".join(painted),
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        font_family=FONT,
        **size,
    )
