"""Layouts: our own on generated diagrams, and Graphviz's where it is there, fails, or talks nonsense."""

from __future__ import annotations

import shutil
import sys
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from drawn_networks import NETWORKS, nasbench201
from hypothesis import given, settings
from hypothesis import strategies as st
from read_back import box_frame, boxes, cells

from nasflow_cli.draw.diagram import Diagram, sample
from nasflow_cli.draw.graphviz import graphviz
from nasflow_cli.draw.layered import layered, mean, median, spread
from nasflow_cli.draw.layers import arrange
from nasflow_cli.draw.network import network_svg

SQUARES = Diagram(boxes=((60.0, 30.0),) * 4, arrows=((0, 1), (0, 2), (1, 3), (2, 3)))


@st.composite
def diagrams(draw: st.DrawFn) -> Diagram:
    count = draw(st.integers(2, 12))
    pairs = list(combinations(range(count), 2))
    arrows = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=24))
    sizes = draw(st.lists(st.tuples(st.integers(20, 300), st.integers(20, 90)), min_size=count, max_size=count))
    num_top = draw(st.integers(1, min(3, count - 1)))
    arrows = [(tail, head) for tail, head in arrows if head >= num_top]
    return Diagram(boxes=tuple((float(w), float(h)) for w, h in sizes), arrows=tuple(arrows), num_top=num_top)


@given(diagrams())
@settings(max_examples=60, deadline=None)
def test_in_any_diagram_boxes_are_apart_and_arrows_touch_only_their_own(diagram):
    layout = layered(diagram)

    def distance(box: int, x: float, y: float) -> float:
        (cx, cy), (width, height) = layout.centres[box], diagram.boxes[box]
        return max(abs(x - cx) - width / 2, abs(y - cy) - height / 2)

    for a, b in combinations(range(len(diagram.boxes)), 2):
        (ax, ay), (bx, by) = layout.centres[a], layout.centres[b]
        (aw, ah), (bw, bh) = diagram.boxes[a], diagram.boxes[b]
        assert abs(ax - bx) >= (aw + bw) / 2 + 10 or abs(ay - by) >= (ah + bh) / 2 + 10
    for (tail, head), route in zip(diagram.arrows, layout.routes, strict=True):
        others = set(range(len(diagram.boxes))) - {tail, head}
        assert all(distance(box, x, y) > 4 for box in others for x, y in sample(route))
        assert all(-0.01 <= x <= layout.width + 0.01 for x, _ in sample(route))


def test_inputs_stand_at_the_top_and_the_output_below_everything_else():
    layout = layered(Diagram(boxes=((40.0, 20.0),) * 5, arrows=((0, 2), (2, 3), (0, 4)), num_top=2))
    y = [y for _, y in layout.centres]

    assert y[0] == y[1] < y[2] < y[3] < y[4]


def test_a_crossing_that_can_be_avoided_is_avoided():
    nasbench201 = ((0, 1), (0, 2), (1, 3), (0, 4), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7))
    layers = arrange(Diagram(boxes=((60.0, 30.0),) * 8, arrows=nasbench201))
    place = {vertex: at for row in layers.rows for at, vertex in enumerate(row)}
    rank = {vertex: at for at, row in enumerate(layers.rows) for vertex in row}
    steps = {step for path in layers.paths for step in pairwise(path)}

    crossing = [
        (a, b)
        for a, b in combinations(steps, 2)
        if rank[a[0]] == rank[b[0]] and (place[a[0]] - place[b[0]]) * (place[a[1]] - place[b[1]]) < 0
    ]

    assert not crossing


def test_a_long_arrow_stands_upright_beside_the_boxes_that_it_passes():
    chain = Diagram(boxes=((60.0, 30.0),) * 5, arrows=((0, 1), (1, 2), (2, 3), (3, 4), (0, 4)))
    layout = layered(chain)

    assert len({round(x, 3) for x, _ in layout.centres}) == 1
    middle = [x for x, y in sample(layout.routes[-1]) if layout.centres[1][1] < y < layout.centres[3][1]]
    assert max(middle) - min(middle) < 0.01


def test_an_arrow_that_points_back_is_refused():
    with pytest.raises(ValueError, match="to a later one"):
        Diagram(boxes=((1.0, 1.0),) * 2, arrows=((1, 0),))


@pytest.mark.parametrize(("best", "expected"), [(mean, [3.0, 7.0]), (median, [3.0, 7.0])])
def test_things_that_want_the_same_place_share_the_way(best, expected):
    assert spread([[(5.0, 1.0)], [(5.0, 1.0)]], [4.0], best) == expected


def test_a_median_is_where_most_of_the_weight_is():
    assert median([(0.0, 1.0), (10.0, 3.0), (4.0, 1.0)]) == 10.0


def fake_dot(directory: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "dot"
    program.write_text(f"#!{sys.executable}\nimport sys, time\nquestion = sys.stdin.read()\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


def test_without_graphviz_our_own_layout_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert graphviz(SQUARES) is None
    assert network_svg(nasbench201(), "t", layout="graphviz") == network_svg(nasbench201(), "t")


FAULTS = {
    "fails": "sys.exit(1)",
    "is silent": "",
    "talks nonsense": "print('graph of a network')",
    "gives no numbers": "print('graph 1 nan nan')",
    "leaves out a box": "print('graph 1 2 2\\nnode b0 1 1 1 1 b0 solid box black lightgrey\\nstop')",
    "writes bytes": "sys.stdout.buffer.write(bytes(range(128, 256)))",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_graphviz_that_does_not_answer_is_passed_over(fault, tmp_path, monkeypatch):
    fake_dot(tmp_path, FAULTS[fault], monkeypatch)

    assert graphviz(SQUARES) is None
    assert network_svg(nasbench201(), "t", layout="graphviz") == network_svg(nasbench201(), "t")


def test_an_answer_of_a_graphviz_that_failed_is_not_trusted(tmp_path, monkeypatch):
    answer = "graph 1 1 1\nnode b0 .5 .5 1 1 b0 solid box black lightgrey\nstop"
    diagram = Diagram(boxes=((72.0, 72.0),), arrows=())

    fake_dot(tmp_path, f"print({answer!r})", monkeypatch)
    assert graphviz(diagram) is not None
    fake_dot(tmp_path, f"print({answer!r}); sys.exit(1)", monkeypatch)
    assert graphviz(diagram) is None


def test_a_graphviz_that_hangs_is_given_up(tmp_path, monkeypatch):
    fake_dot(tmp_path, "time.sleep(600)", monkeypatch)

    assert graphviz(SQUARES, timeout_s=0.1) is None


def test_a_file_called_dot_that_is_no_program_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "dot").write_bytes(b"\x7fELF not really")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert graphviz(SQUARES) is None


def test_places_are_read_in_pixels_with_y_downwards(tmp_path, monkeypatch):
    answer = ["graph 1 2 3", *(f"node b{n} 1 {2.5 - n} 1 .5 b{n} solid box black lightgrey" for n in range(2))]
    answer += ["edge b0 b1 4 1 2.25 1 2.1 1 1.9 1 1.75 solid black", "stop"]
    fake_dot(tmp_path, f"print({chr(10).join(answer)!r})", monkeypatch)

    layout = graphviz(Diagram(boxes=((72.0, 36.0),) * 2, arrows=((0, 1),)))

    assert layout is not None
    assert (layout.width, layout.height) == (144.0, 216.0)
    assert layout.centres == ((72.0, 36.0), (72.0, 108.0))
    assert (layout.routes[0][0], layout.routes[0][-1]) == ((72.0, 54.0), (72.0, 90.0))


@pytest.mark.skipif(shutil.which("dot") is None, reason="the program dot is not installed")
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("chain", "identity")])
def test_boxes_placed_by_graphviz_do_not_overlap(name):
    drawing = network_svg(NETWORKS[name](), "title", layout="graphviz")

    assert drawing != network_svg(NETWORKS[name](), "title")
    for cell in cells(drawing):
        frames = [box_frame(box) for box in boxes(cell).values()]
        assert not any(a.overlaps(b) for a, b in combinations(frames, 2))
