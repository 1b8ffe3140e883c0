"""What an evaluator is given and what it gives back. The contract that every evaluator is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A trial as a worker needs it. `lineage` is the trial, its parent, that one's parent, and so on."""

    number: int
    architecture: Architecture
    key: str
    budget: int
    seed: int
    lineage: tuple[int, ...]

    @classmethod
    def of(cls, trial: Trial, lineage: tuple[int, ...]) -> Assignment:
        """What a worker needs of a trial."""
        return cls(
            number=trial.number,
            architecture=trial.architecture,
            key=trial.key,
            budget=trial.budget,
            seed=trial.seed,
            lineage=lineage,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plain value that travels to the worker."""
        return {
            "number": self.number,
            "architecture": self.architecture.to_json(),
            "key": self.key,
            "budget": self.budget,
            "seed": self.seed,
            "lineage": list(self.lineage),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Assignment:
        """Read what `to_json` wrote."""
        return cls(
            number=value["number"],
            architecture=Architecture.from_json(value["architecture"]),
            key=value["key"],
            budget=value["budget"],
            seed=value["seed"],
            lineage=tuple(value["lineage"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished evaluation: `score` (higher is better), `epochs` that this trial paid for, and metrics.

    `notes` say what went wrong on the way and was mended, one line each; the journal keeps them.
    """

    score: float
    epochs: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plain value that travels back."""
        return asdict(self)


class Evaluator(Protocol):
    """Gives a trial its score.

    Called with the same assignment it returns the same score (on the CPU), whether or not it was interrupted in
    between. It raises for anything that has no score, and core.interrupt.Interrupted at a safe point once
    `should_stop` returns true. It writes only below its trial's folder.
    """

    def __call__(self, assignment: Assignment, should_stop: Callable[[], bool]) -> Report:
        """Evaluate one trial."""
        ...
