"""Small graphs, and what a network that is built from one costs, counted on the network itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import nasflow_cli.nets  # noqa: F401  (registers what ships)
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.builder import Network
from nasflow_cli.nets.cost import Cost


def node(
    operation: str,
    *inputs: int,
    width: int = 8,
    stride: int = 1,
    act: str | None = None,
    init: str | None = None,
    **arguments: Any,
) -> Node:
    """A node with a relu where its operation has a use for an activation. A skip or a pool that projects is told."""
    if act is None and OPERATIONS[operation].facts.get("activated"):
        act = "relu"
    return Node(operation, inputs, width, stride, act, init, tuple(sorted(arguments.items())))


def single(operation: str, **given: Any) -> Cell:
    """A cell of one node that reads the input."""
    return Cell((node(operation, 0, **given),), (1,))


def graph_of(*blocks: Block, activation: str | None = "relu", **given: Any) -> NetworkGraph:
    """A network of these blocks, with torch's own initialisation."""
    return NetworkGraph(blocks, activation, "default", **given)


def measured(graph: NetworkGraph, shape: Sequence[int], num_classes: int) -> Cost:
    """Count the network's parameters and layers' outputs, and let torch count the FLOPs of one example."""
    outputs: list[int] = []

    def count(layer: nn.Module, given: object, result: Tensor) -> None:
        outputs.append(4 * result.numel())

    with torch.device("meta"):
        network = Network(graph, shape, num_classes).eval()
        for layer in network.modules():
            if not list(layer.children()):
                layer.register_forward_hook(count)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *shape))
    return Cost(
        params=sum(p.numel() for p in network.parameters()),
        flops=counter.get_total_flops(),
        depth=longest_way(network),
        activation_bytes=sum(outputs),
    )


def longest_way(network: Any) -> int:
    """Modules of nodes that hold a convolution or a linear layer on the longest way, and those of the head."""
    before = after = 0
    for number, cell in enumerate(network.cells):
        depths = [after, before][: cell.cell.num_inputs]
        for described, module in zip(cell.cell.nodes, cell.nodes, strict=True):
            depths.append(bool(weighted_layers(module)) + max(depths[value] for value in described.inputs))
        out = max((depths[value] for value in cell.cell.output + cell.cell.added), default=after)
        before, after = (after if number else out), out
    return int(after + len(weighted_layers(network.head)))


def weighted_layers(module: nn.Module) -> list[nn.Module]:
    """The convolutions and linear layers inside."""
    return [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
