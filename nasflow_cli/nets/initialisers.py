"""Initialisations of the weights of convolutions and linear layers. Biases are set to zero, except by `default`.

An entry is called as `f(weight, gain)` under a seeded global generator and changes the weight in place. It may declare
`per_group` (called for each group of a grouped convolution by itself) and `zero_branches` (afterwards the last layer of
each residual branch is set to zero).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from nasflow_cli.core.registry import INITIALISERS
from nasflow_cli.nets.activations import gain

DEFAULT = "default"
_WEIGHTED = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@INITIALISERS.register(DEFAULT)
def default(weight: Tensor, scale: float) -> None:
    """Torch's own: uniform within 1 / sqrt(fan in). Leaves weight and bias as they were made."""


@INITIALISERS.register("kaiming_normal")
def kaiming_normal(weight: Tensor, scale: float) -> None:
    """Normal with deviation scale / sqrt(fan in) (He et al. 2015)."""
    nn.init.normal_(weight, std=scale / math.sqrt(_fan_in(weight)))


@INITIALISERS.register("kaiming_uniform")
def kaiming_uniform(weight: Tensor, scale: float) -> None:
    """Uniform with deviation scale / sqrt(fan in) (He et al. 2015)."""
    bound = scale * math.sqrt(3.0 / _fan_in(weight))
    nn.init.uniform_(weight, -bound, bound)


@INITIALISERS.register("xavier_normal")
def xavier_normal(weight: Tensor, scale: float) -> None:
    """Normal with deviation scale * sqrt(2 / (fan in + fan out)) (Glorot and Bengio 2010)."""
    nn.init.xavier_normal_(weight, gain=scale)


@INITIALISERS.register("xavier_uniform")
def xavier_uniform(weight: Tensor, scale: float) -> None:
    """Uniform with the same deviation as `xavier_normal`."""
    nn.init.xavier_uniform_(weight, gain=scale)


@INITIALISERS.register("lecun_normal")
def lecun_normal(weight: Tensor, scale: float) -> None:
    """Normal with deviation 1 / sqrt(fan in), whatever the activation (LeCun et al. 1998)."""
    nn.init.normal_(weight, std=1.0 / math.sqrt(_fan_in(weight)))


@INITIALISERS.register("orthogonal")
def orthogonal(weight: Tensor, scale: float) -> None:
    """Orthogonal rows or columns, times scale (Saxe et al. 2013)."""
    nn.init.orthogonal_(weight, gain=scale)


@INITIALISERS.register("trunc_normal")
def trunc_normal(weight: Tensor, scale: float) -> None:
    """Normal with deviation 0.02, cut at two deviations (as vision transformers use it)."""
    nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


@INITIALISERS.register("dirac", per_group=True)
def dirac(weight: Tensor, scale: float) -> None:
    """Passes channel i on to channel i, whatever the activation (Zagoruyko and Komodakis 2017). Others are zero."""
    if weight.dim() == 2:
        nn.init.eye_(weight)
    else:
        nn.init.dirac_(weight)


@INITIALISERS.register("zero_residual", zero_branches=True)
def zero_residual(weight: Tensor, scale: float) -> None:
    """As `kaiming_normal`, and the last layer of each residual branch is zero (Goyal et al. 2017, section 5.1)."""
    kaiming_normal(weight, scale)


def _fan_in(weight: Tensor) -> int:
    return max(1, weight[0].numel())


def initialise(module: nn.Module, name: str, activation_name: str | None, *, closes_branch: bool = False) -> None:
    """Apply the named initialisation to every convolution and linear layer inside; the gain fits the activation.

    `closes_branch` says that the module ends a residual branch around it, which an initialisation that declares
    `zero_branches` lets start at zero.
    """
    if name == DEFAULT:
        return
    entry = INITIALISERS[name]
    scale = gain(activation_name) if activation_name else 1.0
    for layer in module.modules():
        if isinstance(layer, _WEIGHTED) and not layer.weight.is_meta:
            for weight in _weights(layer, bool(entry.facts.get("per_group"))):
                entry.make(weight, scale)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if entry.facts.get("zero_branches"):
        _zero_branches(module, closes_branch)


def _weights(layer: nn.Conv2d | nn.Linear, per_group: bool) -> Sequence[Tensor]:
    """The layer's weight, or those of its groups, which share its memory."""
    if per_group and isinstance(layer, nn.Conv2d):
        return layer.weight.detach().chunk(layer.groups)  # a view of a parameter may not be changed in place
    return [layer.weight]


def _zero_branches(module: nn.Module, closes_branch: bool) -> None:
    """Zero what is marked with `closes_branch` inside; without a mark, what ends the module if that ends a branch.

    A module with a branch of its own is its shortcut then, which has to stay.
    """
    layers = list(module.modules())
    ends = [layer for layer in layers if getattr(layer, "closes_branch", False)]
    if not ends and closes_branch:
        scaled = [layer for layer in layers if getattr(layer, "weight", None) is not None]
        norms: list[nn.Module] = [layer for layer in scaled if isinstance(layer, _NORMS)]
        ends = (norms or [layer for layer in scaled if isinstance(layer, _WEIGHTED)])[-1:]
    for layer in ends:
        for parameter in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
            if parameter is not None:
                nn.init.zeros_(parameter)
