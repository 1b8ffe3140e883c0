"""What a network is said to cost is what the built network costs: parameters, FLOPs, depth and activations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from measured_networks import graph_of, measured, node, single
from torch import nn

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import Block, Cell
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.cost import Cost, cost

STEM = Block("stem", single("conv3x3", width=6))
STRIDED = Block("stages.0.transition", single("conv3x3", stride=2))
LEAVE = (4, 5, 6)
TWO_INPUTS = Cell(
    (
        node("conv1x1", 0),
        node("conv1x1", 1),
        node("sep_conv3x3", 2),
        node("max_pool3x3", 3),
        node("conv3x3", 2, 4),
    ),
    LEAVE,
    num_inputs=2,
    join="concat",
)
CELLS = {
    "reads the input and another node": Cell(
        (node("conv3x3", 0), node("sep_conv3x3", 0, 1), node("conv1x1", 1, 2)), (0, 3)
    ),
    "pools between convolutions": Cell(
        (node("max_pool3x3", 0), node("conv5x5", 1), node("avg_pool3x3", 0, 2), node("dil_conv3x3", 3)), (3, 4)
    ),
    "nothing but pools": Cell((node("max_pool3x3", 0), node("avg_pool3x3", 0)), (1, 2)),
    "activations with parameters": Cell((node("conv3x3", 0, act="prelu"), node("conv1x1", 0, act="prelu")), (1, 2)),
    "no nodes, the input passes": Cell((), (0,)),
    "no nodes, the input doubles": Cell((), (0, 0)),
    "nothing leaves": Cell((), ()),
    "a node whose output nobody reads": Cell((node("conv3x3", 0), node("conv5x5", 1)), (1,)),
    "identities and zeros that were kept": Cell((node("skip", 0), node("none", 0), node("conv1x1", 1, 2)), (1, 3)),
    "arguments": Cell((node("conv", 0, kernel=5, groups=2), node("mbconv", 1, expansion=3, se=True)), (2,)),
    "blocks with branches of their own": Cell((node("bottleneck", 0, ratio=0.5), node("basic_block", 1)), (2,)),
    "an added input": Cell((node("conv3x3", 0), node("conv1x1", 0)), (1, 2), added=(0,)),
    "parts of the width, with the input added": Cell(
        (node("conv3x3", 0, width=5), node("conv1x1", 1, width=3)), (1, 2), join="concat", added=(0,)
    ),
    "what is cut for a narrower reader": Cell(
        (node("conv1x1", 0, width=5), node("conv3x3", 1, width=3), node("conv3x3", 2, 1, width=3)),
        (1, 3),
        join="concat",
        cut=True,
    ),
    "two inputs": TWO_INPUTS,
}
WIDER = {
    "concatenated": Cell((node("conv3x3", 0), node("max_pool3x3", 0), node("skip", 1)), (1, 2, 3), join="concat"),
    "projected by a pool and a skip": Cell(
        (node("avg_pool3x3", 0, width=12, act="relu"), node("skip", 0, width=12, act="prelu")), (1, 2)
    ),
    "two inputs of which one comes from finer cells": Cell(
        (
            node("conv1x1", 0, width=12),
            node("skip", 1, width=12, stride=2, act="relu"),
            node("conv3x3", 2, 3, width=12, stride=2),
            node("skip", 3, width=12, stride=2, act="relu"),
        ),
        (4, 5),
        num_inputs=2,
    ),
}
SIZES = [(8, 8), (7, 12), (1, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", [name for name in CELLS if name != "two inputs"])
def test_the_cost_of_a_cell_is_that_of_the_built_one_in_each_of_its_copies(name: str, size: tuple[int, int]) -> None:
    graph = graph_of(STEM, STRIDED, Block("stages.0", CELLS[name], 2))
    assert cost(graph, (3, *size), 10) == measured(graph, (3, *size), 10)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("order", ["before", "after"])
def test_the_cost_of_cells_with_two_inputs_is_that_of_the_built_ones(order: str, size: tuple[int, int]) -> None:
    reduction = WIDER["two inputs of which one comes from finer cells"]
    last = Cell((node("skip", 1, width=12, act="relu", stride=2), node("conv3x3", 0, width=12)), (2, 3), num_inputs=2)
    blocks = (Block("stages.0", TWO_INPUTS, 3), Block("stages.1", single("conv1x1", stride=2)))
    graph = graph_of(STEM, *blocks, Block("stages.1", reduction), Block("stages.1", last), order=order)
    assert cost(graph, (3, *size), 10) == measured(graph, (3, *size), 10)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["concatenated", "projected by a pool and a skip"])
def test_the_cost_of_a_cell_that_changes_the_width_is_that_of_the_built_one(name: str, size: tuple[int, int]) -> None:
    graph = graph_of(STEM, STRIDED, Block("stages.0", WIDER[name]), head_width=20)
    assert cost(graph, (3, *size), 10) == measured(graph, (3, *size), 10)


@pytest.mark.parametrize("size", [(8, 8), (9, 12)], ids=str)
@pytest.mark.parametrize(
    "cell",
    [
        Cell((node("conv3x3", 0, stride=2), node("conv5x5", 1)), (2,)),
        Cell(
            (node("conv3x3", 0, stride=2), node("max_pool3x3", 0, stride=2), node("conv3x3", 1, 2), node("conv1x1", 3)),
            (1, 4),
        ),
        Cell((node("conv3x3", 0), node("avg_pool3x3", 1, stride=2), node("basic_block", 0, stride=2)), (2, 3)),
    ],
    ids=["a chain", "two that halve", "one that halves late"],
)
def test_a_node_halves_what_reads_it_where_it_has_a_stride_and_nothing_else(cell: Cell, size: tuple[int, int]) -> None:
    stem = Block("stem", single("conv3x3", act="prelu"))
    graph = graph_of(stem, Block("stages.0", cell), Block("stages.1", cell), activation="prelu")
    assert cost(graph, (1, *size), 7) == measured(graph, (1, *size), 7)


@pytest.mark.parametrize("activation", ["prelu", None])
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("head_width", [0, 5])
def test_the_cost_of_a_head_is_that_of_the_built_one(head_width: int, order: str, activation: str | None) -> None:
    graph = graph_of(STEM, STRIDED, activation=activation, head_width=head_width, order=order, dropout=0.5)
    assert cost(graph, (3, 9, 9), 10) == measured(graph, (3, 9, 9), 10)


@pytest.mark.parametrize("head_width", [0, 5])
@pytest.mark.parametrize("order", ["before", "after"])
def test_the_cost_of_a_network_of_vectors_is_that_of_the_built_one(order: str, head_width: int) -> None:
    cell = Cell(
        (node("linear", 0, norm="layer", dropout=0.1), node("linear", 0, 1, norm="none"), node("none", 0)), (0, 2, 3)
    )
    wider = single("skip", width=12, act="relu")
    blocks = (Block("stages.0", cell, 2), Block("stages.1", wider))
    graph = graph_of(Block("stem", single("linear")), *blocks, order=order, head_width=head_width)
    assert cost(graph, (7,), 3) == measured(graph, (7,), 3)


def test_the_cost_of_a_small_network_is_the_one_worked_out_by_hand() -> None:
    convolutions = (3 * 6 * 9, 6 * 8 * 9)
    norms, head = 2 * 6 + 2 * 8, 2 * 8 + (8 * 10 + 10)
    flops = 2 * (convolutions[0] * 64 + convolutions[1] * 16 + 8 * 10)
    # Activation, convolution and norm of both, norm and activation, pooling and its flat form, and the classes.
    values = (3 + 6 + 6) * 64 + 6 * 64 + (8 + 8) * 16 + (8 + 8) * 16 + 8 + 8 + 10
    assert cost(graph_of(STEM, STRIDED), (3, 8, 8), 10) == Cost(
        params=sum(convolutions) + norms + head, flops=flops, depth=3, activation_bytes=4 * values
    )


def test_the_cost_of_a_small_network_of_vectors_is_the_one_worked_out_by_hand() -> None:
    graph = graph_of(Block("stem", single("linear", width=4)), activation=None, order="after")
    # Linear layer, norm and activation, and the classes.
    assert cost(graph, (5,), 3) == Cost(
        params=20 + 8 + 15, flops=2 * (20 + 12), depth=2, activation_bytes=4 * (4 + 4 + 4 + 3)
    )


DEEPER = {
    "the input passes": (Cell((), (0,)), 0),
    "two side by side": (Cell((node("conv3x3", 0), node("conv3x3", 0)), (1, 2)), 1),
    "a chain of two beside one": (Cell((node("conv3x3", 0), node("conv3x3", 1), node("conv1x1", 0)), (2, 3)), 2),
    "a chain that only a sum shortens": (Cell((node("conv3x3", 0), node("conv3x3", 0, 1)), (0, 2)), 2),
    "what leads nowhere": (Cell((node("conv3x3", 0), node("conv3x3", 1)), (1,)), 1),
    "pools and skips have no weights": (Cell((node("max_pool3x3", 0), node("skip", 1)), (2,)), 0),
    "a skip that projects has": (single("skip", width=12, act="relu"), 1),
    "a skip that halves has": (single("skip", stride=2, act="relu"), 1),
    "a pool that projects has": (single("avg_pool3x3", width=12, act="relu"), 1),
    "a pool that halves has not": (single("avg_pool3x3", stride=2), 0),
    "a block of several layers is one operation": (single("mbconv"), 1),
    "a longest way that is added": (Cell((node("conv3x3", 0), node("conv3x3", 1)), (1,), added=(2,)), 2),
}


@pytest.mark.parametrize("name", DEEPER)
def test_the_depth_is_the_number_of_operations_with_weights_on_the_longest_way(name: str) -> None:
    cell, deeper = DEEPER[name]
    found = [cost(graph_of(STEM, STRIDED, Block("s", cell), head_width=w), (3, 8, 8), 10).depth for w in (0, 16)]
    assert found == [2 + deeper + 1, 2 + deeper + 2]


def test_every_copy_makes_a_network_deeper() -> None:
    assert cost(graph_of(STEM, STRIDED, Block("s", single("conv3x3"), 7)), (3, 8, 8), 10).depth == 10


def test_the_longest_way_may_pass_a_cell_by() -> None:
    """The second cell is read from two cells on, where the last one reads the first's output alone."""
    deep = Cell((node("conv3x3", 0, width=6), node("conv3x3", 2, width=6)), (3,), num_inputs=2)
    reads_near = Cell((node("conv3x3", 0, width=6),), (2,), num_inputs=2)
    reads_far = Cell((node("conv3x3", 1, width=6),), (2,), num_inputs=2)
    near, far = (
        cost(graph_of(STEM, Block("a", reads_near), Block("b", deep), Block("c", last)), (3, 8, 8), 10).depth
        for last in (reads_near, reads_far)
    )
    assert (near, far) == (1 + 1 + 2 + 1 + 1, 1 + 1 + 1 + 1)


def test_a_parameter_that_is_not_trained_is_not_counted() -> None:
    graph = graph_of(STEM)
    buffers = sum(buffer.numel() for buffer in build(graph, (3, 8, 8), 10, 0).buffers())
    assert buffers > 0
    assert cost(graph, (3, 8, 8), 10).params == 3 * 6 * 9 + 4 * 6 + 70


def test_estimating_a_cost_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    cost(graph_of(STEM, STRIDED, activation="mish"), (3, 10, 6), 10)
    assert torch.equal(torch.get_rng_state(), before)


KEEPS_ITS_WIDTH = """
from torch import nn
from nasflow_cli.core.registry import OPERATIONS


@OPERATIONS.register("keeps_its_width_in_test")
def keeps(slot):
    return nn.MaxPool2d(3, slot.stride, 1)
"""


def test_an_operation_that_gives_another_width_than_its_slot_s_is_refused_by_name(
    plugin: Callable[[str, str], None],
) -> None:
    plugin("keeps_its_width", KEEPS_ITS_WIDTH)
    same, wider = (graph_of(STEM, Block("s", single("keeps_its_width_in_test", width=width))) for width in (6, 7))

    assert cost(same, (3, 8, 8), 10) == measured(same, (3, 8, 8), 10)
    with pytest.raises(ConfigError, match=r"'keeps_its_width_in_test' gave 6 channels where 7 were wanted.*adapts"):
        cost(wider, (3, 8, 8), 10)


def test_layers_that_a_module_calls_twice_leave_two_outputs(plugin: Callable[[str, str], None]) -> None:
    plugin(
        "calls_twice",
        "from torch import nn\nfrom nasflow_cli.core.registry import OPERATIONS\n"
        "class Twice(nn.Module):\n"
        "    def __init__(self, channels):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Conv2d(channels, channels, 1)\n"
        "    def forward(self, x):\n"
        "        return self.layer(self.layer(x))\n"
        "@OPERATIONS.register('calls_twice_in_test', weighted=True)\n"
        "def twice(slot):\n"
        "    return Twice(slot.channels)\n",
    )
    graph = graph_of(STEM, Block("s", single("calls_twice_in_test", width=6)))
    bare = cost(graph_of(STEM), (3, 8, 8), 10)

    found = cost(graph, (3, 8, 8), 10)

    assert found == measured(graph, (3, 8, 8), 10)
    assert found.activation_bytes - bare.activation_bytes == 4 * 2 * 6 * 64
    assert found.params - bare.params == sum(p.numel() for p in nn.Conv2d(6, 6, 1).parameters())
