"""Operations: each entry makes the module of one slot. Importing this package registers all that ship with nasflow.

An operation is `def name(slot: Slot, *, kernel: int = 3, ...) -> nn.Module`; its keyword-only parameters are what YAML
may set or search. At stride 1 it keeps the resolution, at stride 2 it gives ceil(size / 2), so that sums agree on odd
sizes. An operation of a user's own keeps its modules' constructor arguments as attributes, so that an exported network
can name them. What it declares where it is registered is in `core.graph.OperationFacts`.

Refuses: arguments that no such module has (ConfigError). Which slot takes which operation is the space's to decide.
"""

from nasflow_cli.nets.operations import blocks, convolutions, dense, pooling, skips
from nasflow_cli.nets.operations.facts import operation_facts
from nasflow_cli.nets.operations.slot import Slot, chain, common_groups, conv_bn, ordered, same_padding, separable

__all__ = [
    "Slot",
    "blocks",
    "chain",
    "common_groups",
    "conv_bn",
    "convolutions",
    "dense",
    "operation_facts",
    "ordered",
    "pooling",
    "same_padding",
    "separable",
    "skips",
]
