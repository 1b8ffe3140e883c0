"""The key of a network: shared by all descriptions of one computation, by no two computations, in every process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from described_spaces import FACTS
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node, canonical_form, simplify

LABELS = ("conv1x1", "conv3x3", "avg_pool3x3")


def node(operation: str, *inputs: int, width: int = 8, stride: int = 1, activation: str = "relu") -> Node:
    """A node with everything that an operation can have."""
    return Node(operation, inputs, width, stride, activation, "default")


def network(*cells: Cell, depths: tuple[int, ...] = ()) -> NetworkGraph:
    pairs = zip(cells, depths or [1] * len(cells), strict=True)
    blocks = (Block(f"b{i}", cell, depth) for i, (cell, depth) in enumerate(pairs))
    return NetworkGraph(tuple(blocks), "relu", "default")


def simplified(*nodes: tuple[str, tuple[int, ...]], output: tuple[int, ...]) -> Cell:
    return simplify(Cell(tuple(node(operation, *inputs) for operation, inputs in nodes), output), FACTS, [8])


def relabelled(cell: Cell, rng: random.Random) -> Cell:
    """The same cell with its nodes in another topological order and every sum in another order."""
    place, waiting, nodes = {0: 0}, list(range(1, len(cell.nodes) + 1)), []
    while waiting:
        ready = [value for value in waiting if all(read in place for read in cell.nodes[value - 1].inputs)]
        value = rng.choice(ready)
        waiting.remove(value)
        node = cell.nodes[value - 1]
        place[value] = len(place)
        nodes.append(replace(node, inputs=tuple(rng.sample([place[read] for read in node.inputs], len(node.inputs)))))
    return Cell(tuple(nodes), tuple(rng.sample([place[read] for read in cell.output], len(cell.output))))


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    """A random cell of up to 9 nodes, few labels (so that there are ties), sums with multiplicities."""
    nodes = []
    for position in range(draw(st.integers(1, 9))):
        inputs = tuple(draw(st.lists(st.integers(0, position), min_size=1, max_size=3)))
        nodes.append(node(draw(st.sampled_from(LABELS)), *inputs))
    output = tuple(draw(st.lists(st.integers(0, len(nodes)), min_size=1, max_size=3)))
    return simplify(Cell(tuple(nodes), output), FACTS, [8])


@settings(max_examples=100, deadline=None)
@given(cell=cells(), seed=st.integers(0, 2**32))
def test_a_relabelled_cell_has_the_same_key(cell: Cell, seed: int) -> None:
    assert network(relabelled(cell, random.Random(seed))).key() == network(cell).key()


@settings(max_examples=100, deadline=None)
@given(cell=cells(), data=st.data())
def test_another_operation_in_one_live_node_is_another_key(cell: Cell, data: st.DataObject) -> None:
    if not cell.nodes:
        return
    where = data.draw(st.integers(0, len(cell.nodes) - 1))
    nodes = list(cell.nodes)
    nodes[where] = replace(nodes[where], operation="sep_conv3x3")
    assert network(Cell(tuple(nodes), cell.output)).key() != network(cell).key()


@settings(max_examples=100, deadline=None)
@given(cell=cells())
def test_simplifying_again_changes_nothing(cell: Cell) -> None:
    assert simplify(cell, FACTS, [8]) == cell
    assert simplify(cell, FACTS) == cell


def test_the_order_of_inputs_does_not_matter() -> None:
    forth = simplified(("conv1x1", (0,)), ("conv3x3", (0, 1)), output=(1, 2))
    back = simplified(("conv1x1", (0,)), ("conv3x3", (1, 0)), output=(2, 1))
    assert network(forth).key() == network(back).key()


def test_a_node_that_nobody_reads_does_not_matter() -> None:
    with_dead = simplified(("conv1x1", (0,)), ("conv3x3", (0,)), ("conv3x3", (2,)), output=(1,))
    assert with_dead == simplified(("conv1x1", (0,)), output=(1,))


def test_what_stands_behind_nothing_does_not_matter() -> None:
    behind = simplified(("none", (0,)), ("conv3x3", (1,)), ("conv1x1", (0, 2)), output=(3, 2))
    assert behind == simplified(("conv1x1", (0,)), output=(1,))


def test_a_skip_is_what_it_passes_on() -> None:
    skipping = simplified(("conv1x1", (0,)), ("skip", (0, 1)), ("conv3x3", (2,)), output=(3,))
    assert skipping == simplified(("conv1x1", (0,)), ("conv3x3", (0, 1)), output=(2,))


def test_a_sum_with_itself_is_not_the_value() -> None:
    twice = simplified(("conv1x1", (0,)), ("skip", (1,)), output=(1, 2))
    once = simplified(("conv1x1", (0,)), output=(1,))
    assert twice.output == (1, 1)
    assert network(twice).key() != network(once).key()


def test_an_input_that_is_read_twice_is_not_read_once() -> None:
    twice = simplified(("skip", (0,)), ("conv1x1", (0, 1)), output=(2,))
    assert network(twice).key() != network(simplified(("conv1x1", (0,)), output=(1,))).key()


def test_doubling_the_input_is_not_passing_it_on() -> None:
    doubling, passing = simplified(("skip", (0,)), output=(0, 1)), simplified(("skip", (0,)), output=(1,))
    conv = simplified(("conv1x1", (0,)), output=(1,))
    assert network(conv, doubling).key() != network(conv).key()
    assert network(conv, passing).key() == network(conv).key()


def test_a_shared_node_is_not_two_nodes_with_weights_of_their_own() -> None:
    shared = simplified(("conv1x1", (0,)), ("conv3x3", (1,)), ("avg_pool3x3", (1,)), output=(2, 3))
    doubled = simplified(("conv1x1", (0,)), ("conv1x1", (0,)), ("conv3x3", (1,)), ("avg_pool3x3", (2,)), output=(3, 4))
    assert network(shared).key() != network(doubled).key()


def _ring(*steps: tuple[int, int]) -> Cell:
    """Six equal nodes on the input, and six equal ones that each read the two named."""
    upper = tuple(node("conv1x1", 0) for _ in range(6))
    lower = tuple(node("conv3x3", a + 1, b + 1) for a, b in steps)
    return Cell(upper + lower, tuple(range(7, 13)))


def test_cells_that_colour_refinement_cannot_tell_apart_have_keys_of_their_own() -> None:
    hexagon = _ring((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0))
    triangles = _ring((0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3))
    also_triangles = _ring((0, 2), (2, 4), (4, 0), (1, 3), (3, 5), (5, 1))
    assert canonical_form(triangles) == canonical_form(also_triangles)
    assert canonical_form(hexagon) != canonical_form(triangles)


def test_nodes_that_only_look_alike_are_tried_each_in_turn() -> None:
    # A ring of two beside a ring of four: refinement gives all of their nodes one colour, though they differ in place.
    rings = _ring((0, 1), (1, 0), (2, 3), (3, 4), (4, 5), (5, 2))
    assert {canonical_form(relabelled(rings, random.Random(seed))) for seed in range(8)} == {canonical_form(rings)}


def test_many_equal_branches_take_no_time() -> None:
    cell = Cell(tuple(node("conv1x1", 0) for _ in range(40)), tuple(range(1, 41)))
    assert canonical_form(cell) == canonical_form(relabelled(cell, random.Random(0)))


def test_an_activation_where_the_operation_has_none_does_not_matter() -> None:
    def pooled(activation: str) -> Cell:
        return simplify(Cell((node("avg_pool3x3", 0, activation=activation),), (1,)), FACTS, [8])

    assert pooled("relu") == pooled("tanh") == Cell((Node("avg_pool3x3", (0,), 8),), (1,))


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "tanh"},
        {"initialisation": "orthogonal"},
        {"operation": "conv5x5"},
        {"width": 9},
        {"stride": 2},
        {"arguments": (("kernel", 5),)},
        {"arguments": (("kernel", 3),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_node_does_is_part_of_the_key(change: dict[str, Any]) -> None:
    plain = node("conv3x3", 0)
    assert network(Cell((replace(plain, **change),), (1,))).key() != network(Cell((plain,), (1,))).key()


def test_the_shape_of_each_node_is_told_apart_where_shapes_differ() -> None:
    def of(*widths: int) -> str:
        upper = [
            node(operation, 0, width=width) for operation, width in zip(("conv1x1", "conv3x3"), widths[:2], strict=True)
        ]
        return canonical_form(Cell((*upper, node("conv3x3", 1, 2, width=widths[2])), (3,)))

    shapes = [(8, 8, 8), (4, 4, 4), (8, 8, 4), (8, 4, 8), (4, 8, 8)]
    assert len({of(*widths) for widths in shapes}) == len(shapes)


def test_how_what_leaves_a_cell_is_joined_is_part_of_the_key() -> None:
    plain = Cell((node("conv1x1", 0), node("conv3x3", 0)), (1, 2))
    cells = [
        plain,
        replace(plain, join="concat"),
        replace(plain, join="concat", cut=True),
        replace(plain, join="concat", added=(0,)),
        replace(plain, join="concat", output=(1,), added=(2,)),
        replace(plain, output=(0, 1, 2)),
    ]
    assert len({network(cell).key() for cell in cells}) == len(cells)


def test_which_of_two_inputs_is_read_is_part_of_the_key() -> None:
    near, far = (Cell((node("conv1x1", value),), (2,), 2) for value in (0, 1))
    assert network(near).key() != network(far).key()


def test_a_cell_that_passes_its_input_on_counts_where_others_read_the_two_cells_before_them() -> None:
    two = Cell((node("conv1x1", 0), node("conv3x3", 1)), (2, 3), 2)
    passing = Cell((), (0,))
    assert network(CONV, passing, CONV).key() == network(CONV, CONV).key()
    assert network(two, passing, two).key() != network(two, two).key()


@pytest.mark.parametrize(
    ("in_width", "width", "stride", "kept"),
    [(8, 8, 1, False), (6, 8, 1, True), (8, 8, 2, True), (8, 6, 1, True)],
)
def test_a_skip_stays_where_it_changes_the_shape_with_the_activation_of_its_projection(
    in_width: int, width: int, stride: int, kept: bool
) -> None:
    skipping = node("skip", 0, width=width, stride=stride)
    assert simplify(Cell((skipping,), (1,)), FACTS, [in_width]) == (Cell((skipping,), (1,)) if kept else Cell((), (0,)))


def test_a_pooling_has_an_activation_only_where_it_projects_to_another_width() -> None:
    pooling = node("avg_pool3x3", 0, stride=2)
    assert simplify(Cell((pooling,), (1,)), FACTS, [6]).nodes[0].activation == "relu"
    assert simplify(Cell((pooling,), (1,)), FACTS, [8]).nodes[0] == Node("avg_pool3x3", (0,), 8, 2)


def test_a_skip_that_reads_a_part_of_a_wider_value_stays() -> None:
    # The convolution has three channels, of which the skip reads two: it does not stand for the convolution.
    cell = Cell((node("conv3x3", 0, width=3), node("skip", 1, width=2)), (1, 2), join="concat", cut=True)
    found = simplify(cell, FACTS, [5])
    assert found == Cell((cell.nodes[0], Node("skip", (1,), 2)), (1, 2), join="concat", cut=True)
    assert found.out_width([5]) == cell.out_width([5]) == 5


def test_the_sum_of_several_values_is_one_part_of_a_concatenation_and_not_several() -> None:
    cell = Cell((node("conv3x3", 0), node("conv1x1", 0), node("skip", 1, 2)), (3,), join="concat")
    assert simplify(cell, FACTS, [8]).out_width([8]) == 8
    assert simplify(replace(cell, join="sum"), FACTS, [8]).output == (1, 2)


def test_the_simplified_form_is_what_the_key_is_of_and_what_connects() -> None:
    raw = network(CONV, Cell((node("conv3x3", 0), node("none", 1)), (2,)))
    bare = network(CONV, NOTHING)
    kept = replace(raw, simplified=bare)
    assert kept.key() == bare.key() != network(CONV, CONV).key()
    assert raw.is_connected
    assert not kept.is_connected


CONV = simplified(("conv3x3", (0,)), output=(1,))
POOL = simplified(("avg_pool3x3", (0,)), output=(1,))
NOTHING = simplified(("none", (0,)), output=(1,))


def test_two_copies_in_one_block_are_two_adjacent_blocks() -> None:
    assert network(CONV, depths=(2,)).key() == network(CONV, CONV).key()
    assert network(CONV, depths=(2,)).key() != network(CONV, depths=(3,)).key()


def test_the_names_of_blocks_do_not_matter_and_their_order_does() -> None:
    graph = network(CONV, POOL)
    renamed = replace(graph, blocks=tuple(replace(block, name=f"other {block.name}") for block in graph.blocks))
    assert renamed.key() == graph.key()
    assert network(POOL, CONV).key() != graph.key()


def test_what_comes_before_a_block_that_passes_nothing_does_not_matter() -> None:
    assert network(CONV, NOTHING, CONV).key() == network(POOL, POOL, NOTHING, CONV).key()
    assert network(CONV, NOTHING, CONV).key() != network(CONV, NOTHING, POOL).key()


def test_a_network_through_which_nothing_passes_is_not_connected() -> None:
    assert not network(CONV, NOTHING, CONV).is_connected
    assert network(CONV, POOL).is_connected


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "tanh"},
        {"activation": None},
        {"initialisation": "orthogonal"},
        {"dropout": 0.5},
        {"head_width": 64},
        {"order": "after"},
    ],
    ids=str,
)
def test_the_classifier_is_part_of_the_key(change: dict[str, object]) -> None:
    assert replace(network(CONV), **change).key() != network(CONV).key()  # type: ignore[arg-type]


@pytest.mark.parametrize("hash_seed", ["0", "1", "77"])
def test_the_key_is_the_same_in_every_process(hash_seed: str) -> None:
    program = (
        "from nasflow_cli.core.graph import *\n"
        "named = [('conv3x3', (0,)), ('conv1x1', (0, 1)), ('conv1x1', (0, 1))]\n"
        "nodes = tuple(Node(operation, inputs, 8, 1, 'relu') for operation, inputs in named)\n"
        "print(NetworkGraph((Block('stem', Cell(nodes, (2, 3)), 2),), 'relu', 'default', 0.1).key())\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "5a6a39c2664d7fde"


@pytest.mark.parametrize(
    ("nodes", "output", "says"),
    [
        ((Node("conv3x3", (1,), 8),), (1,), "node 0 reads a value that is not computed before it"),
        ((Node("conv3x3", (-1,), 8),), (1,), "node 0 reads a value that is not computed before it"),
        ((Node("conv3x3", (0,), 8),), (2,), "the cell's output reads a value that is not computed"),
    ],
)
def test_a_cell_that_reads_what_is_not_there_cannot_be_made(
    nodes: tuple[Node, ...], output: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Cell(nodes, output)
