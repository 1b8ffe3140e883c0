"""A network graph becomes an `nn.Module`: operations, activations, initialisers, builder, cost.

Importing this package registers everything that ships with nasflow.
"""

from nasflow_cli.nets import activations, initialisers, operations

__all__ = ["activations", "initialisers", "operations"]
