"""Initialisations of the weights of convolutions and linear layers. Biases are set to zero, except by `default`.

An entry is called as `f(weight, gain)` under a seeded global generator and changes the weight in place.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from nasflow_cli.core.registry import INITIALISERS
from nasflow_cli.nets.activations import gain

DEFAULT = "default"


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


def _fan_in(weight: Tensor) -> int:
    return max(1, weight[0].numel())


def initialise(module: nn.Module, name: str, activation_name: str | None) -> None:
    """Apply the named initialisation to every convolution and linear layer inside; the gain fits the activation."""
    if name == DEFAULT:
        return
    scale = gain(activation_name) if activation_name else 1.0
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and not layer.weight.is_meta:
            INITIALISERS[name].make(layer.weight, scale)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
