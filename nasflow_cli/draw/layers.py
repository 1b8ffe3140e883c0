"""Boxes in layers: which layer, and in which order, so that few arrows cross (Sugiyama, Tagawa and Toda 1981).

An arrow over several layers gets a bend (a vertex without size) in each layer between; arrows that leave the same box
share their bends, as they carry the same value. Knows nothing of sizes or places.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from itertools import pairwise

from nasflow_cli.draw.diagram import Diagram

_STARTS, _SWEEPS = 6, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Vertices by layer, left to right. The first are the diagram's boxes, the rest are bends.

    `above` and `below` are each vertex's neighbours in the next layers; `paths` are the vertices on each arrow.
    """

    rows: tuple[tuple[int, ...], ...]
    above: tuple[tuple[int, ...], ...]
    below: tuple[tuple[int, ...], ...]
    paths: tuple[tuple[int, ...], ...]


Rows = list[list[int]]
Neighbours = list[list[int]]


def arrange(diagram: Diagram) -> Layers:
    """Return the layers of a diagram."""
    ranks = _ranks(diagram)
    paths = _bend(diagram, ranks)
    above: Neighbours = [[] for _ in ranks]
    below: Neighbours = [[] for _ in ranks]
    for path in paths:
        for upper, lower in pairwise(path):
            if lower not in below[upper]:
                below[upper].append(lower)
                above[lower].append(upper)
    rows = _order(_first_rows(ranks, below), above, below)
    if rows[0][0] > rows[0][-1]:  # a mirror image crosses as little: take the one with the first input at the left
        rows = [row[::-1] for row in rows]
    return Layers(
        rows=tuple(tuple(row) for row in rows),
        above=tuple(tuple(sorted(values)) for values in above),
        below=tuple(tuple(sorted(values)) for values in below),
        paths=tuple(paths),
    )


def _ranks(diagram: Diagram) -> list[int]:
    """Layer of every box: the longest path to it. Boxes that read nothing stand right above their first reader."""
    ranks = [0] * len(diagram.boxes)
    for tail, head in sorted(diagram.arrows):
        ranks[head] = max(ranks[head], ranks[tail] + 1)
    last = len(ranks) - 1
    if last:
        ranks[last] = max(ranks[last], 1, 1 + max(ranks[:last]))
    fed = {head for _, head in diagram.arrows}
    for box in range(last - 1, diagram.num_top - 1, -1):
        if box not in fed:
            ranks[box] = min((ranks[head] for tail, head in diagram.arrows if tail == box), default=1) - 1
    return ranks


def _bend(diagram: Diagram, ranks: list[int]) -> list[tuple[int, ...]]:
    """Return the vertices on each arrow and append the ranks of new bends to `ranks`."""
    bends: dict[tuple[int, int], int] = {}
    paths = []
    for tail, head in diagram.arrows:
        path = [tail]
        for rank in range(ranks[tail] + 1, ranks[head]):
            if (tail, rank) not in bends:
                bends[tail, rank] = len(ranks)
                ranks.append(rank)
            path.append(bends[tail, rank])
        paths.append((*path, head))
    return paths


def _first_rows(ranks: list[int], below: Neighbours) -> Rows:
    """Vertices in the order in which a walk down from the first ones meets them: already a fair order."""
    rows: Rows = [[] for _ in range(max(ranks) + 1)]
    seen: set[int] = set()
    for start in sorted(range(len(ranks)), key=lambda vertex: (ranks[vertex], vertex)):
        stack = [start]
        while stack:
            vertex = stack.pop()
            if vertex not in seen:
                seen.add(vertex)
                rows[ranks[vertex]].append(vertex)
                stack.extend(reversed(below[vertex]))
    return rows


def _order(rows: Rows, above: Neighbours, below: Neighbours) -> Rows:
    """Sweep down and up, each vertex to the mean place of its neighbours; keep the order with fewest crossings.

    Several starts, and ties that fall the other way every second time, as a sweep gets stuck easily.
    """
    best, fewest = rows, _crossings(rows, below)
    for start in range(_STARTS):
        tried = [_start(row, start) for row in rows]
        for sweep in range(_SWEEPS):
            if not fewest:
                return best
            down = sweep % 2 == 0
            order = range(1, len(tried)) if down else range(len(tried) - 2, -1, -1)
            for at in order:
                fixed = tried[at - 1] if down else tried[at + 1]
                row = tried[at][::-1] if sweep % 4 > 1 else tried[at]
                tried[at] = _by_mean(row, fixed, above if down else below)
            _swap_neighbours(tried, above, below)
            crossings = _crossings(tried, below)
            if crossings < fewest:
                best, fewest = [list(row) for row in tried], crossings
    return best


def _start(row: list[int], number: int) -> list[int]:
    """Return the row turned by a few places, in every second start backwards."""
    turn = number // 2 % len(row)
    turned = row[turn:] + row[:turn]
    return turned[::-1] if number % 2 else turned


def _by_mean(row: list[int], fixed: list[int], neighbours: Neighbours) -> list[int]:
    place = {vertex: at for at, vertex in enumerate(fixed)}
    scale = len(fixed) / max(len(row), 1)
    means = {}
    for at, vertex in enumerate(row):
        places = [place[other] for other in neighbours[vertex]]
        means[vertex] = sum(places) / len(places) if places else at * scale
    return sorted(row, key=means.__getitem__)


def _swap_neighbours(rows: Rows, above: Neighbours, below: Neighbours) -> None:
    """Swap vertices side by side while that removes crossings."""
    for at, row in enumerate(rows):
        upper = {vertex: place for place, vertex in enumerate(rows[at - 1])} if at else {}
        lower = {vertex: place for place, vertex in enumerate(rows[at + 1])} if at + 1 < len(rows) else {}
        for left in range(len(row) - 1):
            a, b = row[left], row[left + 1]
            gain = 0
            for places, neighbours in ((upper, above), (lower, below)):
                of_a = [places[other] for other in neighbours[a]]
                of_b = [places[other] for other in neighbours[b]]
                gain += sum((p > q) - (p < q) for p in of_a for q in of_b)
            if gain > 0:
                row[left], row[left + 1] = b, a


def _crossings(rows: Rows, below: Neighbours) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        place = {vertex: at for at, vertex in enumerate(lower)}
        passed: list[int] = []
        for vertex in upper:
            ends = sorted(place[other] for other in below[vertex])
            total += sum(len(passed) - bisect_right(passed, end) for end in ends)
            for end in ends:
                insort(passed, end)
    return total
