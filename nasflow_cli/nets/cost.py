"""What a network costs, without training it: parameters, operations, depth, and the memory of its activations.

FLOPs count 2 per multiply-add of convolutions and linear layers, as torch's own counter does; norms, activations and
pooling are not counted. Each operation is measured once a shape (see `measure`), so any operation of a user's own is
covered, and a network costs a sum of look-ups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import Cell, NetworkGraph, Node, OperationFacts
from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.builder import Setting, cells_of, make_head, make_operation
from nasflow_cli.nets.measure import Measured, Size, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one network costs.

    `params`: trainable parameters. `flops`: floating-point operations of one example, 2 per multiply-add. `depth`:
    operations with weights on the longest way from the input to the classes, the classifier included.
    `activation_bytes`: bytes of all layers' float32 outputs for one example, which is what training keeps.
    """

    params: int
    flops: int
    depth: int = 0
    activation_bytes: int = 0


@lru_cache(maxsize=100_000)
def _operation_cost(node: Node, width: int, setting: Setting, size: Size) -> Measured:
    with torch.device("meta"):
        module = make_operation(node, width, setting).eval()
    measured = measure(module, width, size)
    if measured.width != node.width:
        raise ConfigError(
            f"operation {node.operation!r} gave {measured.width} channels where {node.width} were wanted; "
            "register it with `adapts=True` and have it project, or keep it from where the width changes"
        )
    return measured


@lru_cache(maxsize=4096)
def _head_cost(graph: NetworkGraph, width: int, setting: Setting, size: Size, num_classes: int) -> Measured:
    with torch.device("meta"):
        head = make_head(graph, width, setting, num_classes).eval()
    return measure(head, width, size)


def cost(graph: NetworkGraph, input_shape: Sequence[int], num_classes: int) -> Cost:
    """Cost of the network on examples of `input_shape`: (channels, height, width), or (features,).

    Raises ConfigError when an operation does not give the width that it should.
    """
    setting = Setting(order=graph.order, vectors=len(input_shape) == 1)
    first: Size = tuple(input_shape[1:])
    before = after = (first, 0)
    params = flops = outputs = 0
    width = input_shape[0]
    for number, (cell, widths) in enumerate(cells_of(graph, input_shape[0])):
        inputs = (after, before)[: cell.num_inputs]
        # Depths are counted from the least deep input, so that copies of a cell are one look-up.
        base = min(depth for _, depth in inputs)
        relative = tuple((size, depth - base) for size, depth in inputs)
        told, size, deeper = _cell_cost(cell, widths[: cell.num_inputs], setting, relative)
        depth = base + deeper
        params, flops, outputs = params + told.params, flops + told.flops, outputs + told.outputs
        before, after = (after if number else (size, depth)), (size, depth)
        width = cell.out_width(widths)
    bare = replace(graph, blocks=(), simplified=None)
    head = _head_cost(bare, width, setting, after[0], num_classes)
    return Cost(
        params=params + head.params,
        flops=flops + head.flops,
        depth=after[1] + 1 + (graph.head_width > 0),
        activation_bytes=4 * (outputs + head.outputs),
    )


@lru_cache(maxsize=20_000)
def _cell_cost(
    cell: Cell, widths: tuple[int, ...], setting: Setting, inputs: tuple[tuple[Size, int], ...]
) -> tuple[Measured, Size, int]:
    """What one cell adds, and the size and depth at its output. `inputs` are sizes and depths, nearest first."""
    values = list(inputs[: cell.num_inputs])
    value_widths = cell.widths(widths)
    params = flops = outputs = 0
    for node in cell.nodes:
        reads = [values[value] for value in node.inputs] or [inputs[0]]
        in_width = cell.in_width(node, value_widths)
        bare = Node(node.operation, (), node.width, node.stride, node.activation, None, node.arguments)
        told = _operation_cost(bare, in_width, setting, reads[0][0])
        params, flops, outputs = params + told.params, flops + told.flops, outputs + told.outputs
        fact = OperationFacts(**OPERATIONS[node.operation].facts)
        deeper = fact.weighted or fact.projects(in_width, node.width, node.stride)
        values.append((told.size, max(depth for _, depth in reads) + deeper))
    leaving = [values[value] for value in cell.output + cell.added] or [inputs[0]]
    return Measured(params, flops, outputs, 0, ()), leaving[0][0], max(depth for _, depth in leaving)
