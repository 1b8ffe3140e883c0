"""What one parameter of a search space may be: a choice, an ordered choice, a whole number or a number in a range.

A domain is written in YAML as a single value (nothing to search), a list, or `{min: , max: }` with `step:` or
`log: true`; `{choices: [...]}` is the long form of a list. Refuses the empty domain, repeated choices, numbers that
are not finite, and more steps than anyone would search.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.registry import nearest

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["categorical", "ordinal", "integer", "float"]

MAX_CHOICES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The values that a parameter can take. `choices` for the first two kinds, `low` and `high` for the others."""

    kind: Kind
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def __post_init__(self) -> None:
        if self.kind in ("categorical", "ordinal"):
            if not self.choices:
                raise ValueError("an empty domain: give at least one choice")
            if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("a choice stands twice in the domain")
        elif not self.low < self.high:
            raise ValueError(f"an empty domain: min ({self.low:g}) must be below max ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range needs a min above 0")

    @property
    def size(self) -> int | None:
        """Number of values, or None when they cannot be counted."""
        if self.kind == "float":
            return None
        return len(self.choices) if self.choices else int(self.high) - int(self.low) + 1

    @property
    def values(self) -> list[Value]:
        """All values, of a domain that can be counted."""
        return list(self.choices) if self.choices else list(range(int(self.low), int(self.high) + 1))

    @property
    def most(self) -> float:
        """The largest value, of a domain of numbers."""
        return max(float(value) for value in self.choices or (self.high,))

    @property
    def is_fixed(self) -> bool:
        """Whether there is nothing to search."""
        return self.size == 1

    def __contains__(self, value: object) -> bool:
        if self.choices:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        if self.kind == "integer":
            return type(value) is int and self.low <= value <= self.high
        return isinstance(value, float) and self.low <= value <= self.high

    def sample(self, rng: np.random.Generator) -> Value:
        """Draw a value, uniformly (uniformly in the logarithm for a logarithmic range)."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        return self.from_unit(float(rng.random()))

    def to_unit(self, value: Value) -> float:
        """Map a value of a range to [0, 1]."""
        if isinstance(value, str):
            raise TypeError("only numbers lie in a range")
        shift = 0.5 if self.kind == "integer" else 0.0
        low, high, number = self.low - shift, self.high + shift, float(value)
        if self.log:
            low, high, number = (math.log(v) for v in (low, high, number))
        return (number - low) / (high - low)

    def from_unit(self, position: float) -> Value:
        """Map [0, 1] to a value of the range: the inverse of `to_unit` up to rounding."""
        shift = 0.5 if self.kind == "integer" else 0.0
        low, high = self.low - shift, self.high + shift
        if self.log:
            number = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
        else:
            number = low + position * (high - low)
        if self.kind == "integer":
            return int(min(max(round(number), self.low), self.high))
        return float(min(max(number, self.low), self.high))

    def to_yaml(self) -> Any:
        """Return the plain value that `parse_domain` reads back."""
        if self.choices:
            return {"choices": list(self.choices)}
        number = int if self.kind == "integer" else float
        return {"min": number(self.low), "max": number(self.high), "log": self.log}


def categorical(*choices: Value) -> Domain:
    """A domain without order."""
    return Domain(kind="categorical", choices=choices)


def parse_domain(raw: object) -> Domain:
    """Read a domain as YAML gives it. Raises ValueError when it is none."""
    if isinstance(raw, Domain):
        return raw
    if isinstance(raw, (bool, int, float, str)):
        return _choice([raw])
    if isinstance(raw, list):
        return _choice(raw)
    if isinstance(raw, Mapping):
        return _mapping(raw)
    raise ValueError("a domain is a value, a list of values, or {min: , max: }")


def _choice(values: list[Any]) -> Domain:
    for value in values:
        if not isinstance(value, (bool, int, float, str)):
            raise ValueError(f"a choice is a number, a word or true/false, not {value!r}")  # noqa: TRY004
        if not isinstance(value, str) and not _is_finite(value):
            raise ValueError(f"a choice is a finite number, not {value!r}")
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numeric and values:
        if len({type(value) for value in values}) > 1:
            values = [float(value) for value in values]
        return Domain(kind="ordinal", choices=tuple(sorted(values)))
    return Domain(kind="categorical", choices=tuple(values))


def _mapping(raw: Mapping[str, Any]) -> Domain:
    known = ("choices", "min", "max", "step", "log")
    for key in raw:
        if key not in known:
            raise ValueError(f"a domain has no key {key!r}{nearest(key, known)} (known: {', '.join(known)})")
    if "choices" not in raw:
        return _range(raw)
    if len(raw) > 1 or not isinstance(raw["choices"], list):
        raise ValueError("`choices` is a list, and stands alone")
    return _choice(raw["choices"])


def _range(raw: Mapping[str, Any]) -> Domain:
    if not {"min", "max"} <= set(raw):
        raise ValueError("a range needs both `min` and `max`")
    for number in (raw["min"], raw["max"], raw.get("step", 1)):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not _is_finite(number):
            raise ValueError(f"a range is made of finite numbers, not {number!r}")
    low, high, step, log = raw["min"], raw["max"], raw.get("step"), raw.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"`log` is true or false, not {log!r}")  # noqa: TRY004
    if step is None:
        whole = isinstance(low, int) and isinstance(high, int)
        return Domain(kind="integer" if whole else "float", low=low, high=high, log=log)
    if step <= 0 or log:
        raise ValueError("`step` is above 0 and does not go with `log`")
    steps = (high - low) / step + 1e-9
    if steps >= MAX_CHOICES:
        raise ValueError(f"`step` makes more than {MAX_CHOICES} values; make it larger, or leave it out")
    return _choice([low + i * step for i in range(math.floor(steps) + 1)])


def _is_finite(number: float) -> bool:
    """Like math.isfinite, which raises for an int that is larger than every float."""
    return abs(number) <= sys.float_info.max


_SCALAR = {"type": ["number", "string", "boolean"]}
DOMAIN_SCHEMA = {
    "anyOf": [
        _SCALAR,
        {"type": "array", "minItems": 1, "items": _SCALAR},
        {"type": "object", "properties": {"choices": {"type": "array", "items": _SCALAR}}},
        {
            "type": "object",
            "required": ["min", "max"],
            "properties": {k: {"type": "number"} for k in ("min", "max", "step")} | {"log": {"type": "boolean"}},
        },
    ]
}
DomainField = Annotated[
    Domain,
    BeforeValidator(parse_domain),
    PlainSerializer(lambda domain: domain.to_yaml()),
    WithJsonSchema(DOMAIN_SCHEMA),
]
"""A domain as a field of a configuration model."""
