"""Layers of vectors, (n, in_channels) to (n, channels). Refuses a norm that it does not know and a dropout of 1."""

from __future__ import annotations

from torch import nn

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.registry import OPERATIONS, nearest
from nasflow_cli.nets.operations.slot import Slot, chain

_NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": nn.Identity}


@OPERATIONS.register("linear", weighted=True, activated=True, takes="vectors")
def linear(slot: Slot, *, norm: str = "batch", dropout: float = 0.0) -> nn.Module:
    """Linear layer, norm (`batch`, `layer` or `none`) and dropout, which stands behind the activation in both orders.

    The linear layer has a bias where no norm follows it. Raises ConfigError for another norm, or a dropout that is
    not in [0, 1).
    """
    if norm not in _NORMS:
        raise ConfigError(f"linear has no norm {norm!r}{nearest(norm, list(_NORMS))} (known: {', '.join(_NORMS)})")
    if not 0 <= dropout < 1:
        raise ConfigError(f"linear drops a share of its inputs that is at least 0 and below 1, not {dropout:g}")
    layers = [nn.Linear(slot.in_channels, slot.channels, bias=norm == "none"), _NORMS[norm](slot.channels)]
    active = [slot.activation(), nn.Dropout(dropout) if dropout else nn.Identity()]
    return chain(*active, *layers) if slot.order == "before" else chain(*layers, *active)
