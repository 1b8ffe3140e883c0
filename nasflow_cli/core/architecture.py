"""An architecture is two named halves: the structure and the operators that stand in its slots (GNAS, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str
"""What a parameter of a search space can be set to. Always a plain Python value."""

Half = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One member of a search space. Holds only the parameters that are active in it, sorted by name."""

    structure: Half
    operators: Half

    def __post_init__(self) -> None:
        object.__setattr__(self, "structure", dict(sorted(self.structure.items())))
        object.__setattr__(self, "operators", dict(sorted(self.operators.items())))

    def to_json(self) -> dict[str, Any]:
        """Return the plain value that the journal holds."""
        return {"structure": dict(self.structure), "operators": dict(self.operators)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Architecture:
        """Read what `to_json` wrote."""
        return cls(structure=value["structure"], operators=value["operators"])
