"""Executors: they run tasks somewhere. They know nothing of what a task means.

Importing this package registers those that ship with nasflow.
"""

from nasflow_cli.execute import inline, local

__all__ = ["inline", "local"]
