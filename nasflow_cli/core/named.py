"""Settings that are the name of something registered. Refuses other names, and says which is near."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Says of a setting, beside its type, which names it may be: for its documentation and for editors.

    `fact` is what they have to be registered with. In a JSON Schema they are examples, since plug-ins add others.
    """

    registry: Registry[Any]
    fact: str | None = None

    def known(self) -> list[str]:
        """The names that are registered now, sorted."""
        return [name for name in self.registry if self.fact is None or self.registry[name].facts.get(self.fact)]

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {**handler(schema), "examples": self.known()}
