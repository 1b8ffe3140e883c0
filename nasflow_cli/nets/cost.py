"""What a network costs, without training it: parameters and floating-point operations of one image's forward pass.

FLOPs count 2 per multiply-add of convolutions and linear layers, as torch's own counter does; norms, activations and
pooling are not counted. Each operation is measured once a shape, on the meta device, so any operation of a user's own
is covered, and a network costs a sum of look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasflow_cli.core.graph import NetworkGraph, Node
from nasflow_cli.nets.activations import activation
from nasflow_cli.nets.builder import make_operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """`params`: trainable parameters. `flops`: floating-point operations of one image, 2 per multiply-add."""

    params: int
    flops: int


@lru_cache(maxsize=100_000)
def _operation_cost(
    operation: str, act: str | None, channels: tuple[int, int], stride: int, size: tuple[int, ...]
) -> tuple[int, int, tuple[int, ...]]:
    node = Node(operation, (0,), act)
    with torch.device("meta"):
        module = make_operation(node, channels[0], channels[1], stride).eval()
        return _measure(module, torch.empty(1, channels[0], *size))


def _measure(module: nn.Module, x: torch.Tensor) -> tuple[int, int, tuple[int, ...]]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        y = module(x)
    params = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return params, int(counter.get_total_flops()), tuple(y.shape[2:])


@lru_cache(maxsize=1024)
def _head_params(act: str, channels: int, num_classes: int) -> int:
    with torch.device("meta"):
        act_params = sum(parameter.numel() for parameter in activation(act)().parameters())
    return 2 * channels + act_params + (channels + 1) * num_classes


def cost(graph: NetworkGraph, input_shape: tuple[int, ...], num_classes: int) -> Cost:
    """Cost of the network on images of `input_shape` (channels, height, width) or vectors of (features,)."""
    channels, *sides = input_shape
    size = tuple(sides)
    params = flops = 0
    for block in graph.blocks:
        for copy in range(block.depth):
            out_size = size
            for node in block.cell.nodes:
                reads_input = 0 in node.inputs
                c_in = channels if reads_input else block.width
                stride = block.stride if reads_input and copy == 0 else 1
                at = size if reads_input else out_size
                p, f, out_size = _operation_cost(node.operation, node.activation, (c_in, block.width), stride, at)
                params, flops = params + p, flops + f
            channels, size = block.width, out_size
    params += _head_params(graph.activation, channels, num_classes)
    return Cost(params=params, flops=flops + 2 * channels * num_classes)
