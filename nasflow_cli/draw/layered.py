"""Our own layout: layers from top to bottom, arrows that bend around boxes. Needs no program beside Python.

By construction no arrow touches a box that it does not join: it curves only between two layers, and passes a layer
upright in a gap that was left for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from nasflow_cli.draw.diagram import Diagram, Layout, Point, Route, straight
from nasflow_cli.draw.layers import Layers, arrange

_BOX_GAP, _BEND_GAP = 26.0, 16.0
_LAYER_GAP, _STUB = 34.0, 10.0
_PORT_GAP, _PORT_MARGIN = 13.0, 14.0
_BOX_PULL, _MIXED_PULL, _BEND_PULL = 3.0, 1.0, 6.0
_SWEEPS = 24

Pull = tuple[float, float]
"""A place that something wants to stand at, and how much."""


def layered(diagram: Diagram) -> Layout:
    """Return a layout of the diagram, the same one every time."""
    layers = arrange(diagram)
    sizes = [*diagram.boxes, *[(0.0, 0.0)] * (sum(map(len, layers.rows)) - len(diagram.boxes))]
    across = _across(layers, sizes, len(diagram.boxes))
    bands = _bands(layers, sizes, across)
    rank = {vertex: at for at, row in enumerate(layers.rows) for vertex in row}
    centres = [(across[box], sum(bands[rank[box]]) / 2) for box in range(len(diagram.boxes))]
    ports = _ports(layers, sizes, across)
    routes = [
        _route([(across[vertex], *bands[rank[vertex]]) for vertex in path], port, _ends(path, sizes, centres))
        for path, port in zip(layers.paths, ports, strict=True)
    ]
    left = min(across[v] - sizes[v][0] / 2 for v in range(len(sizes)))
    right = max(across[v] + sizes[v][0] / 2 for v in range(len(sizes)))
    return Layout(
        width=right - left,
        height=bands[-1][1],
        centres=tuple((x - left, y) for x, y in centres),
        routes=tuple(tuple((x - left, y) for x, y in route) for route in routes),
    )


def mean(pulls: Sequence[Pull]) -> float:
    """Return the place with the least squared distance to all pulls."""
    return sum(place * weight for place, weight in pulls) / sum(weight for _, weight in pulls)


def median(pulls: Sequence[Pull]) -> float:
    """Return the place with the least distance to all pulls; the middle where several are."""
    ordered = sorted(pulls)
    half = sum(weight for _, weight in ordered) / 2
    so_far = 0.0
    for at, (place, weight) in enumerate(ordered):
        so_far += weight
        if so_far > half:
            return place
        if so_far == half:
            return (place + ordered[at + 1][0]) / 2
    return ordered[-1][0]


def spread(
    pulls: Sequence[Sequence[Pull]], gaps: Sequence[float], best: Callable[[Sequence[Pull]], float]
) -> list[float]:
    """Return the places nearest to their pulls that keep at least `gaps` between neighbours.

    Pools adjacent violators: things that want to overlap are moved as one, to what is best for all of them.
    """
    offsets = [0.0, *accumulate(gaps)]
    pools: list[tuple[float, list[Pull], int]] = []
    for offset, wanted in zip(offsets, pulls, strict=True):
        shifted = [(place - offset, weight) for place, weight in wanted]
        pool = (best(shifted), shifted, 1)
        while pools and pools[-1][0] > pool[0]:
            _, others, count = pools.pop()
            together = others + pool[1]
            pool = (best(together), together, count + pool[2])
        pools.append(pool)
    placed = [place for place, _, count in pools for _ in range(count)]
    return [place + offset for place, offset in zip(placed, offsets, strict=True)]


def _across(layers: Layers, sizes: Sequence[Point], num_boxes: int) -> list[float]:
    """Return x of every vertex: near its neighbours, long arrows upright. Means find the shape, medians align it."""
    gaps = [[_gap(a, b, sizes, num_boxes) for a, b in pairwise(row)] for row in layers.rows]
    across = [0.0] * len(sizes)
    for row, between in zip(layers.rows, gaps, strict=True):
        width = sum(between)
        for vertex, offset in zip(row, [0.0, *accumulate(between)], strict=True):
            across[vertex] = offset - width / 2
    for sweep in range(2 * _SWEEPS):
        best = mean if sweep < _SWEEPS else median
        order = range(len(layers.rows)) if sweep % 2 == 0 else range(len(layers.rows) - 1, -1, -1)
        for at in order:
            row = layers.rows[at]
            pulls = [_pulls(vertex, layers, across, num_boxes) for vertex in row]
            for vertex, place in zip(row, spread(pulls, gaps[at], best), strict=True):
                across[vertex] = place
    return across


def _gap(left: int, right: int, sizes: Sequence[Point], num_boxes: int) -> float:
    bends = (left >= num_boxes) + (right >= num_boxes)
    return (sizes[left][0] + sizes[right][0]) / 2 + (_BEND_GAP if bends else _BOX_GAP)


def _pulls(vertex: int, layers: Layers, across: Sequence[float], num_boxes: int) -> list[Pull]:
    """Where the neighbours of a vertex want it: long arrows upright first, then pairs that have only each other."""
    pulls = []
    for other in layers.above[vertex] + layers.below[vertex]:
        upper, lower = (other, vertex) if other in layers.above[vertex] else (vertex, other)
        bends = (vertex >= num_boxes) + (other >= num_boxes)
        alone = len(layers.below[upper]) == 1 and len(layers.above[lower]) == 1
        pulls.append((across[other], (_BOX_PULL, _MIXED_PULL, _BEND_PULL)[bends] * (2.0 if alone else 1.0)))
    return pulls or [(across[vertex], 1.0)]


def _bands(layers: Layers, sizes: Sequence[Point], across: Sequence[float]) -> list[tuple[float, float]]:
    """Return top and bottom of every layer. The wider the arrows between two layers swing, the more room they get."""
    bands = []
    top = 0.0
    for row in layers.rows:
        bottom = top + max(sizes[vertex][1] for vertex in row)
        bands.append((top, bottom))
        swing = max((abs(across[v] - across[w]) for v in row for w in layers.below[v]), default=0.0)
        top = bottom + _LAYER_GAP + _STUB + min(40.0, swing / 8)
    return bands


def _ports(layers: Layers, sizes: Sequence[Point], across: Sequence[float]) -> list[float]:
    """Return x at which each arrow meets its box: right below where it comes from if it can, apart from the others."""
    ports = [0.0] * len(layers.paths)
    for head in {path[-1] for path in layers.paths}:
        arriving = sorted(
            (number for number, path in enumerate(layers.paths) if path[-1] == head),
            key=lambda number: (across[layers.paths[number][-2]], number),
        )
        room = max(sizes[head][0] / 2 - _PORT_MARGIN, 0.0)
        gap = min(_PORT_GAP, 2 * room / max(len(arriving) - 1, 1))
        pulls = []
        for number in arriving:
            away = across[layers.paths[number][-2]] - across[head]
            near = away if abs(away) <= room else room * (0.6 if away > 0 else -0.6)
            pulls.append([(near, 1.0)])
        placed = spread(pulls, [gap] * (len(arriving) - 1), mean)
        shift = max(-room - placed[0], 0.0) + min(room - placed[-1], 0.0)
        for number, place in zip(arriving, placed, strict=True):
            ports[number] = across[head] + place + shift
    return ports


def _ends(path: Sequence[int], sizes: Sequence[Point], centres: Sequence[Point]) -> tuple[float, float]:
    """Return the lower side of the box that an arrow leaves and the upper side of the one that it enters."""
    tail, head = path[0], path[-1]
    return centres[tail][1] + sizes[tail][1] / 2, centres[head][1] - sizes[head][1] / 2


def _route(stops: Sequence[tuple[float, float, float]], port: float, ends: tuple[float, float]) -> Route:
    """Return a route through stops (x, top and bottom of the layer), from one box's lower side to a port."""
    x = stops[0][0]
    points: list[Point] = [(x, ends[0])]
    for number, (next_x, top, _) in enumerate(stops[1:], 1):
        last = number == len(stops) - 1
        bottom = stops[number - 1][2]
        target = port if last else next_x
        _go(points, (x, bottom))
        end = (target, top - _STUB)
        if abs(target - x) >= 0.5:
            middle = (bottom + end[1]) / 2
            points.extend([(x, middle), (target, middle), end])
        x = target
    _go(points, (x, ends[1]))
    return tuple(points)


def _go(points: list[Point], end: Point) -> None:
    if points[-1] != end:
        points.extend(straight(points[-1], end)[1:])
