"""Activations: each entry makes a fresh module. A user's own comes from a module under `plugins:`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from nasflow_cli.core.registry import ACTIVATIONS

for _name, _module in {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}.items():
    ACTIVATIONS.register(_name)(_module)


def activation(name: str) -> Callable[[], nn.Module]:
    """What makes the named activation. Raises ConfigError for an unknown name."""
    make: Callable[[], nn.Module] = ACTIVATIONS[name].make
    return make


@cache
def gain(name: str) -> float:
    """The factor that keeps a unit normal input's second moment at 1 behind the activation: E[f(z)^2] ** -0.5.

    He et al. 2015, section 2.2, for any activation: 2 ** 0.5 for relu. Integrated on a grid, so that it holds for a
    user's own activation as well, one that draws its parameters included: they are drawn from a seed of its own.
    """
    with torch.device("cpu"), torch.no_grad(), torch.random.fork_rng(devices=[]):  # wherever the network is built
        torch.default_generator.manual_seed(0)
        z = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float64)
        density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        moment = torch.trapezoid(activation(name)().double()(z) ** 2 * density, z).item()
    return float(moment**-0.5) if moment > 0 else 1.0
