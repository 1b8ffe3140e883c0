"""Curves with bands as the text of an SVG document: what the benchmarks draw. Every curve is named where it ends.

Refuses curves without points, and bands that are not as long as their curve. What lies outside the axes is drawn at
their edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasflow_cli.draw.axes import Axis, tick_label
from nasflow_cli.draw.boxes import GROUND, INK, MUTED, RULE
from nasflow_cli.draw.svg import FONT, element, number, text, text_width, tooltip

COLOURS = (
    *("#0b5fa5", "#c4420f", "#1b7f3b", "#8a3ea8", "#8a6100"),
    *("#c2185b", "#37474f", "#00796b", "#7a4b2a", "#5350c8"),
)
"""Each dark enough to be read as text on white."""

DASHES = ("", "7 4", "2 3", "9 3 2 3")
"""Told apart once the colours begin again."""

_LEFT, _TOP, _BOTTOM, _GAP = 78.0, 56.0, 58.0, 14.0
_LABEL, _LINE = 12.0, 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A name, its points (x rising) and, for each point, the low and the high end of its band; () for no band."""

    name: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError(f"the curve {self.name!r} has no points")
        if self.band and len(self.band) != len(self.points):
            raise ValueError(f"the band of {self.name!r} has {len(self.band)} places for {len(self.points)} points")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where the axes stand on the page, in pixels."""

    x: Axis
    y: Axis
    right: float
    bottom: float

    def across(self, value: float) -> float:
        return _LEFT + self.x.share(value) * (self.right - _LEFT)

    def down(self, value: float) -> float:
        return self.bottom - self.y.share(value) * (self.bottom - _TOP)


def chart(title: str, curves: Sequence[Curve], x: Axis, y: Axis, *, width: float = 900.0, height: float = 520.0) -> str:
    """Return the chart as an SVG document, sizes in pixels. Later curves lie above earlier ones.

    Raises ValueError when there is no curve, or no room for the curves beside their names.
    """
    if not curves:
        raise ValueError("a chart has at least one curve")
    room = max(text_width(curve.name, _LABEL) for curve in curves) + 34.0
    frame = _Frame(x=x, y=y, right=width - room, bottom=height - _BOTTOM)
    if frame.right - _LEFT < 100 or frame.bottom - _TOP < max(100.0, _LINE * len(curves)):
        raise ValueError(f"{number(width)} by {number(height)} pixels are too few for {len(curves)} curves and names")
    painted = [
        tooltip([title]),
        element("rect", x=0, y=0, width=width, height=height, fill=GROUND),
        text(title, _LEFT, 30.0, 16.0, font_weight="bold", text_anchor="start", fill=INK),
        *_grid(frame),
        *(_band(frame, curve, i) for i, curve in enumerate(curves) if curve.band),
        *(_line(frame, curve, i) for i, curve in enumerate(curves)),
        *_names(frame, curves),
    ]
    size = {"width": number(width), "height": number(height), "viewBox": f"0 0 {number(width)} {number(height)}"}
    return element("svg", "".join(painted), xmlns="http://www.w3.org/2000/svg", role="img", font_family=FONT, **size)


def _grid(frame: _Frame) -> list[str]:
    painted = []
    for tick in frame.y.ticks():
        y = frame.down(tick)
        painted.append(element("line", x1=_LEFT, x2=frame.right, y1=y, y2=y, stroke=RULE))
        painted.append(text(tick_label(tick), _LEFT - 8, y + 4, 11.0, text_anchor="end", fill=MUTED))
    for tick in frame.x.ticks(10):
        x = frame.across(tick)
        painted.append(element("line", x1=x, x2=x, y1=frame.bottom, y2=frame.bottom + 5, stroke=MUTED))
        painted.append(text(tick_label(tick), x, frame.bottom + 19, 11.0, text_anchor="middle", fill=MUTED))
    painted.append(element("line", x1=_LEFT, x2=frame.right, y1=frame.bottom, y2=frame.bottom, stroke=MUTED))
    middle = (_LEFT + frame.right) / 2
    painted.append(text(frame.x.title, middle, frame.bottom + 42, 12.0, text_anchor="middle", fill=INK))
    painted.append(text(frame.y.title, _LEFT, _TOP - 8, 12.0, text_anchor="start", fill=INK))
    return painted


def _look(number_of_curve: int) -> tuple[str, str]:
    dash = DASHES[number_of_curve // len(COLOURS) % len(DASHES)]
    return COLOURS[number_of_curve % len(COLOURS)], dash


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def _band(frame: _Frame, curve: Curve, at: int) -> str:
    xs = [frame.across(x) for x, _ in curve.points]
    lower = [(x, frame.down(low)) for x, (low, _) in zip(xs, curve.band, strict=True)]
    upper = [(x, frame.down(high)) for x, (_, high) in zip(xs, curve.band, strict=True)]
    path = _path([*lower, *reversed(upper)]) + "Z"
    return element("path", d=path, fill=_look(at)[0], fill_opacity="0.13", data_band=curve.name)


def _line(frame: _Frame, curve: Curve, at: int) -> str:
    colour, dash = _look(at)
    path = _path([(frame.across(x), frame.down(y)) for x, y in curve.points])
    return element(
        "path",
        d=path,
        fill="none",
        stroke=colour,
        stroke_width=2,
        stroke_linejoin="round",
        stroke_dasharray=dash,
        data_curve=curve.name,
    )


def _names(frame: _Frame, curves: Sequence[Curve]) -> list[str]:
    """The name of every curve at the height where it ends, moved so far that no two overlap, joined to it by a line."""
    ends = [frame.down(curve.points[-1][1]) for curve in curves]
    painted = []
    for at, height in zip(*_apart(ends, _TOP, frame.bottom), strict=True):
        colour, dash = _look(at)
        x = frame.across(curves[at].points[-1][0])
        path = _path([(x, ends[at]), (frame.right + 4, ends[at]), (frame.right + _GAP + 8, height)])
        painted.append(element("path", d=path, fill="none", stroke=colour, stroke_width=1, stroke_dasharray=dash))
        painted.append(
            text(curves[at].name, frame.right + _GAP + 12, height + 4, _LABEL, text_anchor="start", fill=colour)
        )
    return painted


def _apart(heights: Sequence[float], top: float, bottom: float) -> tuple[list[int], list[float]]:
    """Return the order of heights from the top, and heights in that order which are a line apart and on the page."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed: list[float] = []
    for i in order:
        placed.append(max(heights[i], placed[-1] + _LINE if placed else top))
    floor = bottom
    for at in range(len(placed) - 1, -1, -1):
        placed[at] = min(placed[at], floor)
        floor = placed[at] - _LINE
    return order, placed
