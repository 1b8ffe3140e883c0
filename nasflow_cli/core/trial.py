"""Trials, their results, and the history that both form. A history only grows; everything else is a fold of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nasflow_cli.core.architecture import Architecture

Side = Literal["structure", "operators"]
"""A half of an architecture."""

HALVES: tuple[Side, Side] = ("structure", "operators")
Phase = Side | Literal["both"]
"""What a turn searches: one half while the other is held, or both at once."""

Source = Literal["random", "density", "edit", "promotion"]
ErrorKind = Literal["exception", "nan", "memory", "timeout", "worker", "checkpoint", "disk"]
"""What ended a trial. `disk` is never told of one: no trial is to blame for it, and the search stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """How a trial came to be proposed, so that a reader can check each claim that the method makes.

    `ranked` counts the candidates that competed for the slot. `correlation` is Kendall's tau between what the
    predictor had said of earlier trials before they ran and what they then scored; None while too few are known.
    `fitted_on` counts the results that the predictor had learned from. `filtered` tells whether it made the choice,
    and `why` gives the reason in a word: `predictor`, `bypass`, `untrusted`, `cold`, `off` or `promotion`.
    """

    source: Source
    ranked: int = 0
    fitted_on: int = 0
    correlation: float | None = None
    predicted: float | None = None
    filtered: bool = False
    why: str = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training of one architecture up to a budget (epochs, counted from its first).

    `turn` counts the turns of both searches from 0; `bracket` is hpbandster's iteration number, here equal to the
    turn's own bracket count over both phases; `slot` is hpbandster's configuration id. `parent` is the trial whose
    checkpoint this one goes on from.
    """

    number: int
    architecture: Architecture
    key: str
    budget: int
    seed: int
    phase: Phase
    turn: int
    bracket: int
    rung: int
    slot: tuple[int, int, int]
    parent: int | None
    proposal: Proposal

    def __post_init__(self) -> None:
        # Numbers become names of files and places in lists; True and 0.0 would pass for numbers.
        for name in ("number", "parent", "budget", "seed"):
            value = getattr(self, name)
            if type(value) is not int and not (name == "parent" and value is None):
                raise ValueError(f"the {name} of a trial is a whole number, not {value!r}")
        if self.budget < 1:
            raise ValueError(f"a budget is at least 1, not {self.budget}")
        if self.parent is not None and self.parent >= self.number:
            raise ValueError("a parent comes before its child")

    def to_json(self) -> dict[str, Any]:
        """Return the plain value that the journal holds."""
        return {
            "trial": self.number,
            "key": self.key,
            "phase": self.phase,
            "turn": self.turn,
            "bracket": self.bracket,
            "rung": self.rung,
            "slot": list(self.slot),
            "budget": self.budget,
            "seed": self.seed,
            "parent": self.parent,
            "proposal": asdict(self.proposal),
            **self.architecture.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Trial:
        """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError when it is something else."""
        first, second, third = value["slot"]
        return cls(
            number=value["trial"],
            architecture=Architecture.from_json(value),
            key=value["key"],
            budget=value["budget"],
            seed=value["seed"],
            phase=value["phase"],
            turn=value["turn"],
            bracket=value["bracket"],
            rung=value["rung"],
            slot=(first, second, third),
            parent=value["parent"],
            proposal=Proposal(**value["proposal"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a trial ended: a score (higher is better) or an error, never both.

    `seconds` is wall time in the worker, `epochs` what this trial itself paid for, `started` and `finished` are
    seconds since 1970 (UTC). `metrics` are plain numbers beside the score. `notes` say what went wrong on the way and
    was mended, one line each.
    """

    trial: int
    score: float | None
    error: str | None = None
    error_kind: ErrorKind | None = None
    seconds: float = 0.0
    epochs: int = 0
    started: float = 0.0
    finished: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if type(self.trial) is not int:
            raise ValueError(f"a result is of a trial's number, not {self.trial!r}")
        if (self.score is None) == (self.error is None):
            raise ValueError("a result has either a score or an error")
        if (self.error is None) != (self.error_kind is None):
            raise ValueError("an error has a kind, and only an error has one")
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"a score is a finite number, not {self.score}")

    def to_json(self) -> dict[str, Any]:
        """Return the plain value that the journal holds."""
        value = asdict(self)
        value["metrics"] = dict(self.metrics)
        value["notes"] = list(self.notes)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Result:
        """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError when it is something else."""
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        return cls(**{**known, "notes": tuple(known.get("notes", ()))})


class History:
    """All trials asked and all results told, in the order in which that happened.

    Refuses a trial out of turn, a result for a trial that was never asked, and a second result for the same trial.
    """

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.results: dict[int, Result] = {}
        self.events: list[Trial | Result] = []
        self._scored: list[tuple[Trial, Result]] = []
        self._pending: dict[int, Trial] = {}
        self._best: tuple[Trial, Result] | None = None

    def asked(self, trial: Trial) -> None:
        """Append a trial. Raises ValueError when its number is not the next one."""
        if trial.number != len(self.trials):
            raise ValueError(f"trial {trial.number} asked, but {len(self.trials)} is next")
        self.trials.append(trial)
        self.events.append(trial)
        self._pending[trial.number] = trial

    def told(self, result: Result) -> None:
        """Append a result. Raises ValueError when its trial is unknown or already has one."""
        if not 0 <= result.trial < len(self.trials):
            raise ValueError(f"a result for trial {result.trial}, which was never asked")
        if result.trial in self.results:
            raise ValueError(f"a second result for trial {result.trial}")
        self.results[result.trial] = result
        self.events.append(result)
        del self._pending[result.trial]
        if result.score is not None:
            self._scored.append((self.trials[result.trial], result))
            self._best = min(filter(None, (self._best, self._scored[-1])), key=best_first)

    def lineage(self, trial: Trial) -> tuple[int, ...]:
        """The trial, its parent, that one's parent, and so on."""
        numbers = [trial.number]
        while (parent := self.trials[numbers[-1]].parent) is not None:
            numbers.append(parent)
        return tuple(numbers)

    def pending(self) -> list[Trial]:
        """Trials without a result, in the order they were asked."""
        return list(self._pending.values())

    def scored(self) -> Sequence[tuple[Trial, Result]]:
        """Trials with a score, in the order in which the scores came. Not to be changed."""
        return self._scored

    def best(self) -> tuple[Trial, Result] | None:
        """The trial with the highest score at the largest budget that has one; the earliest of equals."""
        return self._best


def best_first(scored: tuple[Trial, Result]) -> tuple[int, float, int]:
    """Orders trials that have a score, best first: by larger budget, then higher score, then lower number."""
    trial, result = scored
    return -trial.budget, -(result.score or 0.0), trial.number
