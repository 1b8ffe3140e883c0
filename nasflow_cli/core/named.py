"""Settings that are the name of something registered. Refuses other names, and says which is near."""

from __future__ import annotations

from typing import Any

from pydantic import AfterValidator

from nasflow_cli.core.registry import Registry


def name_in(registry: Registry[Any]) -> AfterValidator:
    """Check that a setting is a registered name."""

    def check(name: str) -> str:
        if name not in registry:
            raise ValueError(registry.unknown(name))
        return name

    return AfterValidator(check)
