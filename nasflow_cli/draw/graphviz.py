"""The layout of Graphviz's `dot`, where that program is there. Only places are taken from it: we paint ourselves.

Refuses nothing: whatever goes wrong (no program, a failure, a timeout, an answer that cannot be read) is answered with
None, and the caller takes our own layout.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Sequence

from nasflow_cli.draw.diagram import Diagram, Layout, Point, Route

_INCH = 72.0


def graphviz(diagram: Diagram, *, timeout_s: float = 10.0) -> Layout | None:
    """Return where `dot` puts the boxes, or None if it cannot be asked."""
    program = shutil.which("dot")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, no shell, and only numbers on its standard input
            [program, "-Tplain"],
            input=_question(diagram),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return _read(done.stdout, diagram) if done.returncode == 0 else None
    except (OSError, subprocess.SubprocessError, ValueError, LookupError):
        return None


def _question(diagram: Diagram) -> str:
    lines = ["digraph {", "nodesep=0.36; ranksep=0.55; node [shape=box, fixedsize=true]; edge [dir=none]"]
    for number, (width, height) in enumerate(diagram.boxes):
        lines.append(f"b{number} [width={width / _INCH:.4f}, height={height / _INCH:.4f}]")
    lines.extend(f"b{tail} -> b{head}" for tail, head in diagram.arrows)
    top = "; ".join(f"b{number}" for number in range(diagram.num_top))
    lines.extend([f"{{rank=min; {top}}}", f"{{rank=max; b{len(diagram.boxes) - 1}}}", "}"])
    return "\n".join(lines)


def _read(answer: str, diagram: Diagram) -> Layout:
    """Return the layout in an answer in the format `plain`: inches, y upwards. Raises ValueError and LookupError."""
    rows = [line.split() for line in answer.splitlines() if line.strip()]
    width, height = _floats(rows[0][2:4])  # the first row is "graph scale width height"
    centres = {row[1]: _floats(row[2:4]) for row in rows if row[0] == "node"}
    routes: dict[tuple[str, str], Route] = {}
    for row in rows:
        if row[0] == "edge":
            values = _floats(row[4 : 4 + 2 * int(row[3])])
            routes[row[1], row[2]] = _points(values, height)
    return Layout(
        width=width * _INCH,
        height=height * _INCH,
        centres=tuple(_points(centres[f"b{number}"], height)[0] for number in range(len(diagram.boxes))),
        routes=tuple(_checked(routes[f"b{tail}", f"b{head}"]) for tail, head in diagram.arrows),
    )


def _floats(words: Sequence[str]) -> list[float]:
    values = [float(word) for word in words]
    if not all(math.isfinite(value) for value in values):
        raise ValueError("not a place")
    return values


def _points(values: Sequence[float], height: float) -> tuple[Point, ...]:
    pairs = zip(values[::2], values[1::2], strict=True)
    return tuple((x * _INCH, (height - y) * _INCH) for x, y in pairs)


def _checked(route: Route) -> Route:
    if len(route) < 4 or len(route) % 3 != 1:
        raise ValueError("not a curve of cubic pieces")
    return route
