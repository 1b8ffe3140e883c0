"""Reads a drawing back: frames, texts and arrows, with no knowledge of how they were placed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from nasflow_cli.draw.diagram import sample
from nasflow_cli.draw.svg import text_width

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, x: float, y: float, margin: float = 0.0) -> bool:
        return self.left - margin <= x <= self.right + margin and self.top - margin <= y <= self.bottom + margin

    def overlaps(self, other: Frame) -> bool:
        apart = self.right <= other.left or other.right <= self.left or self.bottom <= other.top
        return not (apart or other.bottom <= self.top)


def frame(rect: ElementTree.Element) -> Frame:
    left, top, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
    return Frame(left=left, top=top, right=left + width, bottom=top + height)


def box_frame(group: ElementTree.Element) -> Frame:
    return next(frame(rect) for rect in group.findall(f"{SVG}rect") if "data-part" not in rect.attrib)


def text_frame(text: ElementTree.Element) -> Frame:
    size, x, y = (float(text.attrib[name]) for name in ("font-size", "x", "y"))
    width = text_width(text.text or "", size, bold="font-weight" in text.attrib)
    left = x - width / 2 if text.attrib["text-anchor"] == "middle" else x
    return Frame(left=left, top=y - 0.8 * size, right=left + width, bottom=y + 0.25 * size)


def texts(element: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def cells(drawing: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(drawing).findall(f".//{SVG}g[@data-cell]")


def boxes(element: ElementTree.Element) -> dict[int, ElementTree.Element]:
    return {int(group.attrib["data-value"]): group for group in element.findall(f".//{SVG}g[@data-value]")}


def arrows(element: ElementTree.Element) -> dict[tuple[int, int], list[tuple[float, float]]]:
    """Points along every arrow, head included."""
    found = {}
    for group in element.findall(f".//{SVG}g[@data-arrow]"):
        path, head = group.find(f"{SVG}path"), group.find(f"{SVG}polygon")
        assert path is not None
        assert head is not None
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
        points = sample(tuple(zip(numbers[::2], numbers[1::2], strict=True)), steps=16)
        tip = [float(number) for number in head.attrib["points"].split()[0].split(",")]
        tail, to = map(int, group.attrib["data-arrow"].split())
        found[tail, to] = [*points, (tip[0], tip[1])]
    return found
