"""What may stand in a slot: operations, each with the arguments that are set or searched with it.

In YAML a name, or a list of names and of mappings such as `mbconv: {kernel: [3, 5], expansion: 6}`. Refuses unknown
names and arguments, each with the near one, and values of another type than the argument's default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator, PlainSerializer, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from nasflow_cli.core.domain import DOMAIN_SCHEMA, Domain, categorical, parse_domain
from nasflow_cli.core.registry import OPERATIONS, Argument, arguments_of, nearest

Place = tuple[str | int, ...]
Mistakes = list[tuple[Place, str]]

_WORDS = {int: "whole numbers are", float: "numbers are", bool: "true or false is", str: "words are"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSet:
    """`choices` are the names; `arguments` the domains of those that YAML names, by operation."""

    choices: Domain
    arguments: Mapping[str, Mapping[str, Domain]]

    def to_yaml(self) -> Any:
        """Return the plain value that reads back."""
        return {
            "choices": [
                {name: {key: domain.to_yaml() for key, domain in self.arguments[name].items()}}
                if name in self.arguments
                else name
                for name in map(str, self.choices.choices)
            ]
        }


def refuse(mistakes: Mistakes) -> NoReturn:
    """Raise several mistakes at once, each at its place inside what is being validated."""
    details = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=where, input=None)
        for where, text in mistakes
    ]
    raise ValidationError.from_exception_data("space", details)


def parse_operations(raw: object) -> OperationSet:
    """Read a set of operations as YAML gives it. Raises ValueError or ValidationError."""
    if isinstance(raw, OperationSet):
        return raw
    mistakes: Mistakes = []
    names: list[str] = []
    arguments: dict[str, dict[str, Domain]] = {}
    for where, entry in _entries(raw):
        name, given = _name(entry, where, mistakes)
        if name is None:
            continue
        if name in names:
            mistakes.append((where, f"{name!r} stands twice in the domain; name all values of its arguments at once"))
            continue
        names.append(name)
        found = dict(_arguments(name, given, (*where, name), mistakes))
        if found:
            arguments[name] = found
    if mistakes:
        refuse(mistakes)
    return OperationSet(choices=categorical(*names), arguments=arguments)


def _entries(raw: object) -> list[tuple[Place, object]]:
    """The entries of a set, each with its place inside it."""
    at: Place = ()
    if isinstance(raw, Mapping) and "choices" in raw:
        if len(raw) > 1 or not isinstance(raw["choices"], list):
            raise ValueError("`choices` is a list, and stands alone")
        raw, at = raw["choices"], ("choices",)
    if not isinstance(raw, list):
        return [(at, raw)]
    if not raw:
        raise ValueError("an empty domain: give at least one choice")
    return [((*at, position), entry) for position, entry in enumerate(raw)]


def _name(entry: object, where: Place, mistakes: Mistakes) -> tuple[str | None, Mapping[str, Any]]:
    given: object = {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        entry, given = next(iter(entry.items()))
    if not isinstance(entry, str) or not isinstance(given, Mapping):
        mistakes.append((where, "an operation is a name, or a name with arguments, as in {conv: {kernel: [3, 5]}}"))
    elif entry not in OPERATIONS:
        mistakes.append((where, OPERATIONS.unknown(entry)))
    else:
        return entry, given
    return None, {}


def _arguments(name: str, given: Mapping[str, Any], where: Place, mistakes: Mistakes) -> Iterator[tuple[str, Domain]]:
    known = arguments_of(OPERATIONS[name])
    for key, raw in given.items():
        if key not in known:
            what = f"(known: {', '.join(known)})" if known else "(it has none)"
            mistakes.append(((*where, key), f"{name!r} has no argument {key!r}{nearest(key, list(known))} {what}"))
            continue
        try:
            yield key, _typed(parse_domain(raw), known[key])
        except ValueError as error:
            mistakes.append(((*where, key), str(error)))


def _typed(domain: Domain, argument: Argument) -> Domain:
    """The domain with values of the argument's type. Raises ValueError when they are of another."""
    if argument.type is float and domain.kind in ("ordinal", "integer"):
        values = domain.choices or (domain.low, domain.high)
        if domain.choices:
            return Domain(kind="ordinal", choices=tuple(float(value) for value in values))
        return Domain(kind="float", low=domain.low, high=domain.high, log=domain.log)
    fits = {
        int: domain.kind == "integer" or all(type(choice) is int for choice in domain.choices or ("",)),
        float: domain.kind == "float",
        bool: all(type(choice) is bool for choice in domain.choices or ("",)),
        str: all(type(choice) is str for choice in domain.choices or (0,)),
    }
    if not fits[argument.type]:
        raise ValueError(f"{_WORDS[argument.type]} wanted for {argument.name!r} (its default is {argument.default!r})")
    return domain


_ENTRY: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {"type": "object", "additionalProperties": DOMAIN_SCHEMA},
        },
    ]
}
_ENTRIES = {"type": "array", "minItems": 1, "items": _ENTRY}
Operations = Annotated[
    OperationSet,
    BeforeValidator(parse_operations),
    PlainSerializer(lambda operations: operations.to_yaml()),
    WithJsonSchema({"anyOf": [_ENTRY, _ENTRIES, {"type": "object", "properties": {"choices": _ENTRIES}}]}),
]
"""A set of operations as a field of a configuration model."""
