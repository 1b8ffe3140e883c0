"""A network graph becomes an `nn.Module`. The same seed gives the same weights in every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasflow_cli.core.graph import Cell, NetworkGraph, Node, Order
from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.activations import activation
from nasflow_cli.nets.initialisers import initialise
from nasflow_cli.nets.operations import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every operation of a network has in common."""

    order: Order = "before"
    vectors: bool = False


class CellModule(nn.Module):
    """Runs one cell on the outputs of the cells before it, the nearest first: each (n, width, ...)."""

    def __init__(self, cell: Cell, in_widths: Sequence[int], setting: Setting) -> None:
        super().__init__()
        self.cell = cell
        self.in_widths = tuple(in_widths[: cell.num_inputs])
        widths = cell.widths(self.in_widths)
        self.reads = [cell.in_width(node, widths) for node in cell.nodes]
        closing = closing_nodes(cell)
        self.nodes = nn.ModuleList(
            make_operation(node, width, setting, closes_branch=position in closing)
            for position, (node, width) in enumerate(zip(cell.nodes, self.reads, strict=True))
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute every node on the sum of its inputs, and join what leaves the cell."""
        cell = self.cell
        values = list(inputs[: cell.num_inputs])
        for node, operation, width in zip(cell.nodes, self.nodes, self.reads, strict=True):
            values.append(operation(total(values, node.inputs, width if cell.cut else None)))
        if not (cell.output or cell.added):
            return values[0].mul(0.0)
        if cell.join == "sum" or not cell.output:
            return total(values, cell.output + cell.added)
        leaving = [values[value] for value in cell.output]
        joined = torch.cat(leaving, 1) if len(leaving) > 1 else leaving[0]
        for value in cell.added:
            joined = joined + values[value]
        return joined


def closing_nodes(cell: Cell) -> set[int]:
    """Positions of the nodes that end a residual branch: they leave a cell that adds one of its inputs to them."""
    sums = cell.added if cell.join == "concat" else cell.output + cell.added
    if not any(value < cell.num_inputs for value in sums):
        return set()
    return {value - cell.num_inputs for value in cell.output + cell.added if value >= cell.num_inputs}


class Network(nn.Module):
    """Images (n, channels, height, width), or vectors (n, features), to logits (n, classes)."""

    def __init__(self, graph: NetworkGraph, input_shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.graph = graph
        setting = Setting(order=graph.order, vectors=len(input_shape) == 1)
        self.cells = nn.ModuleList(
            CellModule(cell, widths, setting) for cell, widths in cells_of(graph, input_shape[0])
        )
        self.head = make_head(graph, out_width(graph, input_shape[0]), setting, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        cells = iter(self.cells)  # a slice would be a new ModuleList each time
        before = after = next(cells)(x)
        for cell in cells:
            after, before = cell(after, before), after
        logits: Tensor = self.head(after)
        return logits


def cells_of(graph: NetworkGraph, in_width: int) -> Iterator[tuple[Cell, tuple[int, int]]]:
    """Every cell of the network, copies included, with the widths of the outputs of the two cells before it."""
    before = after = in_width
    for number, block in enumerate(graph.blocks):
        for _ in range(block.depth):
            yield block.cell, (after, before)
            width = block.cell.out_width((after, before))
            before, after = (after if number else width), width


def out_width(graph: NetworkGraph, in_width: int) -> int:
    """The width of what the head reads."""
    *_, (cell, widths) = cells_of(graph, in_width)
    return cell.out_width(widths)


def make_head(graph: NetworkGraph, width: int, setting: Setting, num_classes: int) -> nn.Sequential:
    """What stands behind the cells: projection, norm and activation where the graph has them, and the classifier."""
    norm, layers = (nn.BatchNorm1d if setting.vectors else nn.BatchNorm2d), []
    act = activation(graph.activation) if graph.activation else None
    if act is not None and (graph.order == "before" or not graph.head_width):
        layers += [norm(width), act()]
    if graph.head_width:
        project = nn.Linear(width, graph.head_width, bias=False)
        layers.append(project if setting.vectors else nn.Conv2d(width, graph.head_width, 1, bias=False))
        width = graph.head_width
        layers.append(norm(width))
        if act is not None:
            layers.append(act())
    if not setting.vectors:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if graph.dropout:
        layers.append(nn.Dropout(graph.dropout))
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def total(values: list[Tensor], which: tuple[int, ...], width: int | None = None) -> Tensor:
    """The sum of the first `width` channels of the chosen values, from left to right."""
    chosen = [values[value] for value in which]
    if width is not None:
        chosen = [value[:, :width] if value.shape[1] > width else value for value in chosen]
    result = chosen[0]
    for value in chosen[1:]:
        result = result + value
    return result


def make_operation(node: Node, width: int, setting: Setting, *, closes_branch: bool = False) -> nn.Module:
    """Make the module of one node that reads `width` channels; torch's global generator draws its weights."""
    slot = Slot(
        in_channels=width,
        channels=node.width,
        stride=node.stride,
        activation=activation(node.activation) if node.activation else nn.Identity,
        order=setting.order,
        vectors=setting.vectors,
    )
    module: nn.Module = OPERATIONS[node.operation].make(slot, **dict(node.arguments))
    if node.initialisation:
        initialise(module, node.initialisation, node.activation, closes_branch=closes_branch)
    return module


def build(graph: NetworkGraph, input_shape: Sequence[int], num_classes: int, seed: int) -> Network:
    """Build on the CPU with weights drawn from `seed`; torch's global generator is left as it was.

    `input_shape` is (channels, height, width), or (features,) for vectors.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators as well
        network = Network(graph, input_shape, num_classes)
        initialise(network.head, graph.initialisation, graph.activation)
        return network
