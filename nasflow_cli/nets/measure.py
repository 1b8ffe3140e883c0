"""Measures one module on the meta device: parameters, FLOPs, outputs and shape, without computing anything.

Torch's own layers are not run: what they give follows from their attributes, which is some fifty times faster than
torch's FLOP counter. A module with any other layer that has parameters, or that is not torch's or nasflow's, is run
under that counter, so that an operation of a user's own is covered as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Size = tuple[int, ...]
_Rule = Callable[[nn.Module, Tensor], tuple[Size, int]]


@dataclass(frozen=True, slots=True)
class Measured:
    """`outputs` counts the numbers that all layers give for one example; `width` and `size` are those of the last."""

    params: int
    flops: int
    outputs: int
    width: int
    size: Size


def measure(module: nn.Module, in_width: int, size: Size) -> Measured:
    """Measure a module on the meta device, for one example (in_width, *size)."""
    x = torch.empty(1, in_width, *size, device="meta")
    leaves = [layer for layer in module.modules() if not list(layer.children())]
    counted = [0, 0]  # FLOPs, outputs
    if all(map(_is_known, module.modules())):
        for layer in leaves:
            if type(layer) in _RULES:
                # An attribute of the instance is what a call finds; the module is thrown away afterwards.
                layer.forward = _stand_in(layer, counted)
            else:
                layer.register_forward_hook(_counter(counted))
        with torch.no_grad():
            y = module(x)
    else:
        for layer in leaves:
            layer.register_forward_hook(_counter(counted))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            y = module(x)
        counted[0] = int(counter.get_total_flops())
    params = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return Measured(params, counted[0], counted[1], int(y.shape[1]), tuple(y.shape[2:]))


def _is_known(module: nn.Module) -> bool:
    """Whether all of a module's multiply-adds are in layers that there is a rule for."""
    if type(module) in _RULES:
        return True
    ours = type(module).__module__.startswith(("torch.nn.", "nasflow_cli."))
    return ours and not (type(module) in _OTHER_MULTIPLIERS or list(module.parameters(recurse=False)))


def _stand_in(layer: nn.Module, counted: list[int]) -> Callable[[Tensor], Tensor]:
    rule = _RULES[type(layer)]

    def forward(x: Tensor) -> Tensor:
        shape, flops = rule(layer, x)
        counted[0] += flops
        counted[1] += math.prod(shape)
        return x if x.shape == shape else torch.empty(shape, device="meta")

    return forward


def _counter(counted: list[int]) -> Callable[[nn.Module, object, Tensor], None]:
    def count(layer: nn.Module, given: object, result: Tensor) -> None:
        counted[1] += result.numel()

    return count


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _conv(layer: nn.Module, x: Tensor) -> tuple[Size, int]:
    assert isinstance(layer, nn.Conv2d)  # noqa: S101
    if isinstance(layer.padding, str):
        sides = tuple(x.shape[2:]) if layer.padding == "same" else _window(layer, x, (0, 0))
    else:
        sides = _window(layer, x, _pair(layer.padding))
    shape = (x.shape[0], layer.out_channels, *sides)
    reads = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    return shape, 2 * math.prod(shape) * reads


def _window(layer: nn.Module, x: Tensor, padding: tuple[int, int], *, ceil: bool = False) -> Size:
    """How often a window fits, a side."""
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)  # type: ignore[arg-type]
    dilation = _pair(getattr(layer, "dilation", 1))
    sides = []
    for side, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        room = side + 2 * p - d * (k - 1) - 1
        number = (-(-room // s) if ceil else room // s) + 1
        # With `ceil_mode` a window that would start in the padding behind the image is left out.
        sides.append(number - 1 if ceil and (number - 1) * s >= side + p else number)
    return tuple(sides)


def _pool(layer: nn.Module, x: Tensor) -> tuple[Size, int]:
    assert isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d))  # noqa: S101
    sides = _window(layer, x, _pair(layer.padding), ceil=layer.ceil_mode)
    return (x.shape[0], x.shape[1], *sides), 0


def _adaptive(layer: nn.Module, x: Tensor) -> tuple[Size, int]:
    assert isinstance(layer, nn.AdaptiveAvgPool2d)  # noqa: S101
    wanted = layer.output_size if isinstance(layer.output_size, tuple) else (layer.output_size, layer.output_size)
    sides = (w if w is not None else side for w, side in zip(wanted, x.shape[2:], strict=True))
    return (x.shape[0], x.shape[1], *sides), 0


def _linear(layer: nn.Module, x: Tensor) -> tuple[Size, int]:
    assert isinstance(layer, nn.Linear)  # noqa: S101
    shape = (*x.shape[:-1], layer.out_features)
    return shape, 2 * math.prod(shape) * layer.in_features


def _same(layer: nn.Module, x: Tensor) -> tuple[Size, int]:
    return tuple(x.shape), 0


_ELEMENTWISE: tuple[type[nn.Module], ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh, nn.Identity),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.Dropout, nn.Dropout2d),
)
_RULES: dict[type[nn.Module], _Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _same),
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: _adaptive,
}
_OTHER_MULTIPLIERS = (nn.CosineSimilarity, nn.PairwiseDistance)
"""Layers of torch that multiply without weights."""
