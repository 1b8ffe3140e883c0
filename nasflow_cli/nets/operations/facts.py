"""What the registered operations declared about themselves. Refuses facts that do not exist or are of another type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import OperationFacts
from nasflow_cli.core.registry import OPERATIONS, nearest

_INPUTS = ("images", "vectors", "any")


def operation_facts() -> Mapping[str, OperationFacts]:
    """What every registered operation declared. Raises ConfigError for a fact that is unknown or of a wrong type."""
    return {name: OperationFacts(**_checked(name, OPERATIONS[name].facts)) for name in OPERATIONS}


def _checked(operation: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    known = [item.name for item in fields(OperationFacts)]
    for fact, value in facts.items():
        if fact not in known:
            raise ConfigError(
                f"operation {operation!r} is registered with {fact!r}, which is no fact{nearest(fact, known)} "
                f"(known: {', '.join(known)})"
            )
        fault = _fault(fact, value)
        if fault:
            raise ConfigError(f"operation {operation!r} is registered with {fact}={value!r}; {fault}")
    return dict(facts)


def _fault(fact: str, value: object) -> str:
    if fact != "takes":
        return "" if isinstance(value, bool) else "say True or False"
    if value in _INPUTS:
        return ""
    near = nearest(value, _INPUTS).removeprefix("; ") if isinstance(value, str) else ""
    return near or f"say one of {', '.join(map(repr, _INPUTS))}"
