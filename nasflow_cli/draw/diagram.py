"""What a layout is asked and what it answers: boxes and arrows in, places and curves out.

Lengths are pixels, y points down. Refuses arrows that point back: the boxes come in topological order, those that stand
at the top first and the one that stands at the bottom last.
"""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]
Route = tuple[Point, ...]
"""A start, then three points (two controls and an end) for every cubic piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """Boxes (width, height) and the arrows between them, one a pair at most; the first `num_top` boxes are inputs."""

    boxes: tuple[tuple[float, float], ...]
    arrows: tuple[tuple[int, int], ...]
    num_top: int = 1

    def __post_init__(self) -> None:
        if not self.boxes:
            raise ValueError("a diagram has at least one box")
        if len(set(self.arrows)) != len(self.arrows):
            raise ValueError("two boxes are joined by one arrow at most")
        if any(not 0 <= tail < head < len(self.boxes) for tail, head in self.arrows):
            raise ValueError("an arrow points from a box to a later one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The middle of every box and the route of every arrow, all within (0, 0) and (width, height)."""

    width: float
    height: float
    centres: tuple[Point, ...]
    routes: tuple[Route, ...]


def straight(start: Point, end: Point) -> Route:
    """Return a straight line as one cubic piece."""
    (x0, y0), (x1, y1) = start, end
    return (start, (x0 + (x1 - x0) / 3, y0 + (y1 - y0) / 3), (x0 + (x1 - x0) * 2 / 3, y0 + (y1 - y0) * 2 / 3), end)


def sample(route: Route, steps: int = 8) -> list[Point]:
    """Return points along a route, `steps` a piece, its ends included."""
    points = [route[0]]
    for at in range(0, len(route) - 1, 3):
        p, q, r, s = route[at : at + 4]
        for step in range(1, steps + 1):
            t = step / steps
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            points.append(
                (a * p[0] + b * q[0] + c * r[0] + d * s[0], a * p[1] + b * q[1] + c * r[1] + d * s[1]),
            )
    return points
