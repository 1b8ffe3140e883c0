"""The drawing of a network: everything is in it, nothing overlaps, and names cannot become markup."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drawn_networks import NETWORKS, darts, identity, long_names, nasbench201, network, node, single
from read_back import SVG, arrows, box_frame, boxes, cells, frame, text_frame, texts

from nasflow_cli.core.graph import Block, Cell, NetworkGraph
from nasflow_cli.draw.network import network_svg
from nasflow_cli.draw.svg import element


@pytest.fixture(params=NETWORKS)
def graph(request: pytest.FixtureRequest) -> NetworkGraph:
    return NETWORKS[request.param]()


def test_every_operation_of_every_cell_has_a_box(graph):
    drawn = cells(network_svg(graph, "title"))
    shown = [texts(box)[0] for cell in drawn for value, box in sorted(boxes(cell).items())]
    shown += [text.split(" \u00d7 ")[0] for text in texts(ElementTree.fromstring(network_svg(graph, "title")))]

    missing = [n.operation for block in graph.blocks for n in block.cell.nodes if n.operation not in shown]

    assert not missing


def test_every_read_of_a_value_is_an_arrow(graph):
    for cell in cells(network_svg(graph, "title")):
        name = cell.attrib["data-cell"]
        first = next(text for text in texts(cell) if text.startswith("in ")).removeprefix("in ").split(" \u00b7 ")[0]
        block = next(block for block in graph.blocks if block.name == first)
        inputs = block.cell.num_inputs
        expected = {(value, inputs + at) for at, n in enumerate(block.cell.nodes) for value in n.inputs}

        drawn = {ends for ends in arrows(cell) if ends[1] < inputs + len(block.cell.nodes)}

        assert drawn == expected, name


def test_no_two_boxes_of_a_cell_overlap(graph):
    for cell in cells(network_svg(graph, "title")):
        frames = [box_frame(box) for box in boxes(cell).values()]

        assert not any(a.overlaps(b) for a, b in combinations(frames, 2))


def test_no_text_leaves_its_box(graph):
    root = ElementTree.fromstring(network_svg(graph, "title"))
    for group in root.findall(f".//{SVG}g"):
        if not {"data-value", "data-block"} & set(group.attrib):
            continue
        around = box_frame(group)
        for text in group.findall(f"{SVG}text"):
            inside = text_frame(text)

            assert around.holds(inside.left, inside.top), text.text
            assert around.holds(inside.right, inside.bottom), text.text


def test_everything_stays_on_the_page_and_cells_in_their_panels(graph):
    drawing = network_svg(graph, "A title", ["a note " * 60])
    root = ElementTree.fromstring(drawing)
    page = frame(next(root.iter(f"{SVG}rect")))
    for text in root.iter(f"{SVG}text"):
        assert page.holds(text_frame(text).left, text_frame(text).top)
        assert page.holds(text_frame(text).right, text_frame(text).bottom)
    for cell in cells(drawing):
        panel = frame(next(cell.iter(f"{SVG}rect")))
        for points in arrows(cell).values():
            assert all(panel.holds(x, y) for x, y in points)
        for box in boxes(cell).values():
            assert panel.holds(box_frame(box).left, box_frame(box).top)
            assert panel.holds(box_frame(box).right, box_frame(box).bottom)


def test_no_arrow_passes_through_a_box_that_it_does_not_join(graph):
    for cell in cells(network_svg(graph, "title")):
        frames = {value: box_frame(box) for value, box in boxes(cell).items()}
        for (tail, head), points in arrows(cell).items():
            others = [around for value, around in frames.items() if value not in (tail, head)]

            assert not any(around.holds(x, y, margin=2.0) for around in others for x, y in points), (tail, head)


def test_every_arrow_leaves_the_lower_side_of_a_box_and_enters_the_upper_side_of_another(graph):
    for cell in cells(network_svg(graph, "title")):
        frames = {value: box_frame(box) for value, box in boxes(cell).items()}
        for (tail, head), points in arrows(cell).items():
            assert points[0][1] == pytest.approx(frames[tail].bottom, abs=0.2)
            assert points[-1][1] == pytest.approx(frames[head].top, abs=0.2)
            assert frames[tail].left < points[0][0] < frames[tail].right
            assert frames[head].left < points[-1][0] < frames[head].right


def test_the_same_network_gives_the_same_bytes_in_every_process():
    program = "from drawn_networks import *; from nasflow_cli.draw.network import network_svg as draw; "
    program += "print(*(draw(make(), 'title', ['note']) for make in NETWORKS.values()))"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    drawn = {
        subprocess.run(
            [sys.executable, "-X", "utf8", "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(drawn) == 1


def test_names_cannot_become_markup():
    evil = """<script>alert("1")</script>'"&]]>\x00\x1b\ud800\u202e"""
    cell = Cell(nodes=(node(evil, 0, activation=evil), node("conv3x3", 1, arguments=((evil, evil),))), output=(1, 2))
    graph = network(Block(name=evil, cell=cell), single(evil, evil))

    root = ElementTree.fromstring(network_svg(replace(graph, activation=evil), evil, [evil]))

    allowed = {"svg", "g", "rect", "text", "path", "polygon", "title"}
    assert {child.tag.removeprefix(SVG) for child in root.iter()} <= allowed
    assert not any(name.startswith("on") or name in ("id", "style", "class") for e in root.iter() for name in e.attrib)
    assert any('<script>alert("1")</script>' in text for text in texts(root))


def test_a_quote_does_not_end_an_attribute():
    read = ElementTree.fromstring(element("g", data_name='"><script>&'))

    assert read.attrib == {"data-name": '"><script>&'}


def test_stages_that_differ_in_width_alone_share_one_drawing():
    drawn = cells(network_svg(nasbench201(), "title"))

    assert [cell.attrib["data-cell"] for cell in drawn] == ["A", "B"]
    assert any("width 16, 32 or 64" in text for text in texts(drawn[0]))


def test_cells_that_differ_in_one_stride_have_two_drawings():
    assert len(cells(network_svg(darts(), "title"))) == 2


def test_what_is_common_stands_in_the_caption_and_a_box_says_only_what_differs():
    (cell,) = cells(network_svg(long_names(), "title"))
    shown = boxes(cell)

    assert any("width 64 \u00b7 relu \u00b7 kaiming_normal" in text for text in texts(cell))
    assert texts(shown[1])[1:] == []
    assert " ".join(texts(shown[2])) == "conv3x3 width 256 \u00b7 stride 2 hard_swish \u00b7 xavier_uniform"


@pytest.mark.parametrize("widths", [(16, 32), (64, 16)])
def test_a_width_that_differs_in_a_shared_drawing_is_a_multiple(widths):
    def bottleneck(width: int) -> Cell:
        nodes = (node("conv1x1", 0, width=width), node("conv3x3", 1, width=width), node("conv1x1", 2, width=4 * width))
        return Cell(nodes=nodes, output=(3,), added=(0,))

    (cell,) = cells(network_svg(network(*(Block(name=f"s{w}", cell=bottleneck(w)) for w in widths)), "title"))

    assert texts(boxes(cell)[3]) == ["conv1x1", "width \u00d74"]


def test_an_identity_cell_is_a_box_in_the_chain():
    drawing = network_svg(identity(), "title")

    assert not cells(drawing)
    assert "identity \u00d7 3" in texts(ElementTree.fromstring(drawing))


def test_a_value_that_is_read_twice_is_one_arrow_that_says_so():
    (cell,) = cells(network_svg(long_names(), "title"))
    labels = [texts(group) for group in cell.findall(f".//{SVG}g[@data-arrow='2 3']")]

    assert labels == [["\u00d72"]]


def test_values_added_after_a_concatenation_pass_it_by_on_a_dashed_arrow():
    (cell,) = cells(network_svg(long_names(), "title"))
    *_, join, output = (texts(box) for _, box in sorted(boxes(cell).items()))
    dashed = [
        group.attrib["data-arrow"]
        for group in cell.findall(f".//{SVG}g[@data-arrow]")
        if "stroke-dasharray" in group.find(f"{SVG}path").attrib
    ]

    assert join == ["concat of 2"]
    assert output == ["output", "sum of 2"]
    assert dashed == ["0 7"]


def test_a_cell_that_gives_nothing_says_so():
    drawing = network_svg(NETWORKS["broken"](), "title")

    assert "nothing reaches it" in texts(ElementTree.fromstring(drawing))


def test_more_than_26_cells_have_letters_of_their_own():
    blocks = [Block(name=f"s{n}", cell=Cell(nodes=(node("conv3x3", *[0] * n),), output=(1,))) for n in range(2, 32)]

    letters = [cell.attrib["data-cell"] for cell in cells(network_svg(network(*blocks), "title"))]

    assert (letters[0], letters[25], letters[26], len(set(letters))) == ("A", "Z", "AA", 30)


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match='no layout "neato"'):
        network_svg(identity(), "title", layout="neato")
