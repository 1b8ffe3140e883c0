"""A network graph becomes an `nn.Module`. The same seed gives the same weights in every process."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.activations import activation
from nasflow_cli.nets.initialisers import initialise
from nasflow_cli.nets.operations import Slot


class CellModule(nn.Module):
    """Runs one cell: (n, in_channels, h, w) to (n, channels, h / stride, w / stride)."""

    def __init__(self, cell: Cell, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.cell = cell
        self.nodes = nn.ModuleList(
            make_operation(
                node,
                in_channels if 0 in node.inputs else channels,
                channels,
                stride if 0 in node.inputs else 1,
            )
            for node in cell.nodes
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute every node on the sum of its inputs, and return the sum of the outputs."""
        values = [x]
        for node, operation in zip(self.cell.nodes, self.nodes, strict=True):
            values.append(operation(total(values, node.inputs)))
        if not self.cell.output:
            return x.mul(0.0)
        return total(values, self.cell.output)


class Network(nn.Module):
    """Images (n, channels, h, w) or vectors (n, features) to logits (n, classes)."""

    def __init__(self, graph: NetworkGraph, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.graph = graph
        in_channels = input_shape[0]
        is_image = len(input_shape) == 3
        cells = []
        for block in graph.blocks:
            cells.extend(_copies(block, in_channels))
            in_channels = block.width
        self.cells = nn.Sequential(*cells)
        self.head = nn.Sequential(
            nn.BatchNorm2d(in_channels) if is_image else nn.BatchNorm1d(in_channels),
            activation(graph.activation)(),
            *([nn.AdaptiveAvgPool2d(1), nn.Flatten()] if is_image else []),
            nn.Dropout(graph.dropout),
            nn.Linear(in_channels, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.cells(x))
        return logits


def total(values: list[Tensor], which: tuple[int, ...]) -> Tensor:
    """The sum of the chosen values, from left to right."""
    result = values[which[0]]
    for value in which[1:]:
        result = result + values[value]
    return result


def _copies(block: Block, in_channels: int) -> list[CellModule]:
    first = CellModule(block.cell, in_channels, block.width, block.stride)
    return [first, *(CellModule(block.cell, block.width, block.width, 1) for _ in range(block.depth - 1))]


def make_operation(node: Node, in_channels: int, channels: int, stride: int) -> nn.Module:
    """Make the module of one node and initialise its weights from torch's global generator."""
    slot = Slot(
        in_channels=in_channels,
        channels=channels,
        stride=stride,
        activation=activation(node.activation) if node.activation else nn.Identity,
    )
    module: nn.Module = OPERATIONS[node.operation].make(slot)
    if node.initialisation:
        initialise(module, node.initialisation, node.activation)
    return module


def build(graph: NetworkGraph, input_shape: tuple[int, ...], num_classes: int, seed: int) -> Network:
    """Build on the CPU with weights drawn from `seed`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators as well
        network = Network(graph, input_shape, num_classes)
        initialise(network.head, graph.initialisation, graph.activation)
        return network
