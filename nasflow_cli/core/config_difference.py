"""What two experiments differ in, of all that makes them other experiments: said to whoever goes on with a run.

Refuses to judge: whether a difference matters is what `ExperimentConfig.identity` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nasflow_cli.core.config import MAY_CHANGE, ExperimentConfig

MOST_SHOWN = 3
"""Differences that a message names; of more it says how many."""

_LONGEST = 60
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting (`a.b.0.c`) and its two values, as JSON would write them; None where there is no such setting."""

    key: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        return f"{self.key} is {_shown(self.before)} there and {_shown(self.now)} here"


def differences(before: ExperimentConfig, now: ExperimentConfig) -> list[Difference]:
    """The settings that make the two other experiments, in the order of the file; empty where only an order differs."""
    there, here = (config.model_dump(mode="json") for config in (before, now))
    return [
        Difference(key=".".join(map(str, where)), before=_written(there, where), now=_written(here, where))
        for where in _differing(before.identifying(), now.identifying(), ())
    ]


def another_experiment(run: str, known: str, before: ExperimentConfig | None, now: ExperimentConfig) -> str:
    """Why a run does not go on with an experiment, and what may be done.

    `before` is what stands in the file `known` of the run; None where that is not what the run was begun with.
    """
    if before is None:
        return (
            f"{run} belongs to another experiment, and {known} is not what it was begun with: put back what stood "
            "there, or start a new run"
        )
    found = differences(before, now)
    said = [str(each) for each in found[:MOST_SHOWN]]
    if len(found) > MOST_SHOWN:
        said.append(f"{len(found) - MOST_SHOWN} more")
    return (
        f"{run} belongs to another experiment: {', '.join(said) or 'the order of some entries differs'}. A run goes on "
        f"with the settings that it was begun with, of which only {', '.join(MAY_CHANGE)} may change; leave the others "
        "as they were, or start a new run with `nasflow search`, in a directory of its own"
    )


def _differing(before: Any, now: Any, where: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            yield from _differing(before.get(name, _ABSENT), now.get(name, _ABSENT), (*where, name))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differing(one, other, (*where, index))
    elif before != now:
        yield where


def _written(value: Any, where: tuple[str | int, ...]) -> str | None:
    for step in where:
        if isinstance(value, Mapping) and step not in value:
            return None
        value = value[step]
    return json.dumps(value)


def _shown(value: str | None) -> str:
    if value is None:
        return "not set"
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
