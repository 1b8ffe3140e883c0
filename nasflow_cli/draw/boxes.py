"""Boxes, arrows and badges: what a drawing is made of. A box is as large as its text; no text leaves it.

Colours are for a white ground, which every picture brings with it. Knows nothing of networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nasflow_cli.draw.diagram import Point, Route
from nasflow_cli.draw.svg import curve, element, text, text_width, tooltip

INK, MUTED, ARROW, GROUND, PANEL, RULE = "#1f2933", "#5a6775", "#6b7785", "#ffffff", "#f7f8fa", "#d9dee4"
_PADDING, _LEADING = 13.0, 1.42


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Colours of a box and how round its corners are (pixels)."""

    fill: str
    stroke: str
    ink: str = INK
    muted: str = MUTED
    corner: float = 6.0


TERMINAL = Look(fill="#34414f", stroke="#34414f", ink="#ffffff", muted="#d5dce4", corner=17.0)
JOIN = Look(fill="#ffffff", stroke="#34414f", corner=14.0)
PLAIN = Look(fill="#ffffff", stroke="#8793a0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of text in a box; `size` is the font size in pixels."""

    text: str
    size: float = 11.0
    bold: bool = False
    muted: bool = False

    @property
    def width(self) -> float:
        """Its estimated width in pixels."""
        return text_width(self.text, self.size, bold=self.bold)

    @property
    def height(self) -> float:
        """The room that it takes from the line above to the one below."""
        return self.size * _LEADING

    def paint(self, x: float, baseline: float, ink: str, anchor: str = "middle") -> str:
        """Return its markup."""
        weight = "600" if self.bold else ""
        return text(self.text, x, baseline, self.size, fill=ink, text_anchor=anchor, font_weight=weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Lines in a frame. `copies` > 1 looks like a stack of cards; a badge of one or two letters stands at its left."""

    lines: tuple[Line, ...]
    look: Look
    details: tuple[str, ...] = ()
    badge: str = ""
    copies: int = 1
    min_width: float = 76.0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels."""
        badge = 2 * (badge_width(self.badge) + 8.0) if self.badge else 0.0
        widest = max((line.width for line in self.lines), default=0.0)
        return max(widest + 2 * _PADDING + badge, self.min_width), sum(line.height for line in self.lines) + 13.0

    def paint(self, centre: Point, width: float = 0.0, **attributes: str | float) -> str:
        """Return its markup around a place, at least `width` wide, in a group with the attributes."""
        own, height = self.size
        width = max(own, width)
        left, top = centre[0] - width / 2, centre[1] - height / 2
        parts = [tooltip(self.details)] if self.details else []
        for behind in range(min(self.copies, 3) - 1, 0, -1):
            shift = 4.0 * behind
            parts.append(self._frame(left + shift, top + shift, width, data_part="card"))
        parts.append(self._frame(left, top, width))
        baseline = top + 6.5
        for line in self.lines:
            baseline += line.height
            ink = self.look.muted if line.muted else self.look.ink
            parts.append(line.paint(centre[0], baseline - line.size * 0.34, ink))
        if self.badge:
            parts.append(badge(self.badge, (left + 9.0 + badge_width(self.badge) / 2, centre[1])))
        return element("g", "".join(parts), **attributes)

    def _frame(self, left: float, top: float, width: float, **attributes: str | float) -> str:
        height = self.size[1]
        corner = min(self.look.corner, height / 2)
        attributes |= {"fill": self.look.fill, "stroke": self.look.stroke, "stroke_width": 1.3}
        return element("rect", x=left, y=top, width=width, height=height, rx=corner, **attributes)


def badge_width(letters: str) -> float:
    """Width of a badge in pixels."""
    return max(22.0, text_width(letters, 12.0, bold=True) + 12.0)


def badge(letters: str, centre: Point) -> str:
    """Return a round badge with white letters, 22 pixels high."""
    width = badge_width(letters)
    x, y = centre
    frame = element("rect", x=x - width / 2, y=y - 11.0, width=width, height=22.0, rx=11.0, fill="#4a54b8")
    return frame + Line(text=letters, size=12.0, bold=True).paint(x, y + 4.3, "#ffffff")


def arrow(route: Route, *, dashed: bool = False, label: str = "", **attributes: str | float) -> str:
    """Return a line along a route with a head at its end, and a label on it above the head."""
    *most, control, tip = route
    length = math.hypot(tip[0] - control[0], tip[1] - control[1]) or 1.0
    ahead = ((tip[0] - control[0]) / length, (tip[1] - control[1]) / length)
    back = (tip[0] - 6.0 * ahead[0], tip[1] - 6.0 * ahead[1])
    moved = (control[0] - 6.0 * ahead[0], control[1] - 6.0 * ahead[1])
    points = [*most, moved, back]
    line = element(
        "path",
        d=curve(points),
        fill="none",
        stroke=ARROW,
        stroke_width=1.4,
        stroke_linejoin="round",
        stroke_dasharray="5 3.5" if dashed else "",
    )
    base = (tip[0] - 8.0 * ahead[0], tip[1] - 8.0 * ahead[1])
    side = (-3.8 * ahead[1], 3.8 * ahead[0])
    corners = [tip, (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1])]
    head = element("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in corners), fill=ARROW)
    return element("g", line + head + (_tag(label, (tip[0], tip[1] - 19.0)) if label else ""), **attributes)


def _tag(label: str, centre: Point) -> str:
    words = Line(text=label, size=10.5, bold=True)
    width = words.width + 5.0
    x, y = centre
    frame = element("rect", x=x - width / 2, y=y - 7.5, width=width, height=15.0, rx=7.5, fill=GROUND, stroke=ARROW)
    return frame + words.paint(x, y + 3.7, INK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A part of a page: its size in pixels, and its markup once its upper left corner is known."""

    width: float
    height: float
    paint: Callable[[float, float], str]


def arrange(pictures: Sequence[Picture], width: float, gap: float) -> Picture:
    """Return pictures side by side, in as many rows as they need to be at most `width` pixels wide."""
    places: list[tuple[float, float]] = []
    x = y = row = widest = 0.0
    for picture in pictures:
        if x and x + picture.width > width:
            x, y, row = 0.0, y + row + gap, 0.0
        places.append((x, y))
        x, row = x + picture.width + gap, max(row, picture.height)
        widest = max(widest, x - gap)

    def paint(left: float, top: float) -> str:
        placed = zip(pictures, places, strict=True)
        return "".join(picture.paint(left + x, top + y) for picture, (x, y) in placed)

    return Picture(width=widest, height=y + row, paint=paint)
