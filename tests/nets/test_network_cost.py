"""What a network is said to cost is what the built network costs, parameter by parameter and FLOP by FLOP."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.nets.builder import Network, build
from nasflow_cli.nets.cost import Cost, cost


def measured(graph: NetworkGraph, shape: tuple[int, int, int], num_classes: int) -> Cost:
    """Count the parameters of the network, and let torch count the FLOPs of one image."""
    with torch.device("meta"):
        network = Network(graph, shape, num_classes).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *shape))
    return Cost(params=sum(p.numel() for p in network.parameters()), flops=counter.get_total_flops())


def node(operation: str, *inputs: int, act: str | None = None) -> Node:
    return Node(operation, inputs, act or (None if "pool" in operation else "relu"))


STEM = Block("stem", Cell((node("conv3x3", 0),), (1,)), 6)
STRIDED = Block("stages.0.transition", Cell((node("conv3x3", 0),), (1,)), 8, 2)
BLOCKS = {
    "reads the input and another node": Block(
        "stages.0", Cell((node("conv3x3", 0), node("sep_conv3x3", 0, 1), node("conv1x1", 1, 2)), (0, 3)), 8
    ),
    "pools between convolutions": Block(
        "stages.0",
        Cell((node("max_pool3x3", 0), node("conv5x5", 1), node("avg_pool3x3", 0, 2), node("dil_conv3x3", 3)), (3, 4)),
        8,
    ),
    "nothing but pools": Block("stages.0", Cell((node("max_pool3x3", 0), node("avg_pool3x3", 0)), (1, 2)), 8),
    "activations with parameters": Block(
        "stages.0", Cell((node("conv3x3", 0, act="prelu"), node("conv1x1", 0, act="prelu")), (1, 2)), 8, 1, 2
    ),
    "no nodes, the input passes": Block("stages.0", Cell((), (0,)), 8, 1, 2),
    "no nodes, the input doubles": Block("stages.0", Cell((), (0, 0)), 8),
    "nothing leaves": Block("stages.0", Cell((), ()), 8),
    "three copies": Block("stages.0", Cell((node("conv3x3", 0), node("conv1x1", 0, 1)), (1, 2)), 8, 1, 3),
}


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (7, 12), (1, 1)], ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_the_cost_of_a_block_is_that_of_the_built_one(name: str, size: tuple[int, int]) -> None:
    graph = NetworkGraph((STEM, STRIDED, BLOCKS[name]), "relu", "default")
    assert cost(graph, (3, *size), 10) == measured(graph, (3, *size), 10)


@pytest.mark.parametrize("size", [(8, 8), (9, 12)], ids=str)
@pytest.mark.parametrize(
    "cell",
    [
        Cell((node("conv3x3", 0), node("conv5x5", 1)), (2,)),
        Cell((node("conv3x3", 0), node("conv1x1", 0), node("conv3x3", 1, 2), node("conv1x1", 1, 3)), (1, 4)),
        Cell((node("conv3x3", 0), node("avg_pool3x3", 1), node("conv3x3", 0), node("conv1x1", 2)), (3, 4)),
    ],
    ids=["a chain", "two that halve", "one that halves late"],
)
def test_in_a_block_with_a_stride_only_what_reads_the_input_halves_and_only_in_the_first_copy(
    cell: Cell, size: tuple[int, int]
) -> None:
    graph = NetworkGraph((STEM, Block("stages.0", cell, 10, 2, 3), Block("stages.1", cell, 4, 2)), "prelu", "default")
    assert cost(graph, (1, *size), 7) == measured(graph, (1, *size), 7)


def test_the_cost_of_a_small_network_is_the_one_worked_out_by_hand() -> None:
    graph = NetworkGraph((STEM, STRIDED), "relu", "default")
    convolutions = (3 * 6 * 9, 6 * 8 * 9)
    norms, head = 2 * 6 + 2 * 8, 2 * 8 + (8 * 10 + 10)
    flops = 2 * (convolutions[0] * 64 + convolutions[1] * 16 + 8 * 10)
    assert cost(graph, (3, 8, 8), 10) == Cost(params=sum(convolutions) + norms + head, flops=flops)


def test_a_parameter_that_is_not_trained_is_not_counted() -> None:
    graph = NetworkGraph((STEM,), "relu", "default")
    buffers = sum(buffer.numel() for buffer in build(graph, (3, 8, 8), 10, 0).buffers())
    assert buffers > 0
    assert cost(graph, (3, 8, 8), 10).params == 3 * 6 * 9 + 4 * 6 + 70


def test_estimating_a_cost_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    cost(NetworkGraph((STEM, STRIDED), "mish", "default"), (3, 10, 6), 10)
    assert torch.equal(torch.get_rng_state(), before)
