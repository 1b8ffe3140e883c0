"""Trials, their results, and the history that both form. A history only grows; everything else is a fold of it."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nasflow_cli.core.architecture import Architecture

Side = Literal["structure", "operators"]
"""A half of an architecture."""

HALVES: tuple[Side, Side] = ("structure", "operators")
Phase = Side | Literal["both"]
"""What a turn searches: one half while the other is held, or both at once."""

TrialPhase = Phase | Literal["confirm"]
"""What a trial is part of: a turn, or the repeats of the best networks after the last one."""

Source = Literal["random", "density", "edit", "promotion", "confirm"]
ErrorKind = Literal["exception", "nan", "memory", "timeout", "worker", "checkpoint", "disk"]
"""What ended a trial. `disk` is never told of one: no trial is to blame for it, and the search stops."""


_LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """How a trial came to be proposed, so that a reader can check each claim that the method makes.

    `ranked` counts the candidates that competed for the slot. `correlation` is Kendall's tau between scores and what a
    member of the predictor's ensemble says of results that it has left out; None while too few are known.
    `fitted_on` counts the results that the predictor had learned from. `filtered` tells whether it made the choice,
    and `why` gives the reason in a word: `predictor`, `bypass`, `untrusted`, `cold`, `off`, `promotion` or `confirm`.
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

    In the phase `confirm` a network is trained again from scratch with another seed; turn, bracket, rung and slot are
    then those of the trial that it repeats.
    """

    number: int
    architecture: Architecture
    key: str
    budget: int
    seed: int
    phase: TrialPhase
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

    @property
    def is_repeat(self) -> bool:
        """Whether a network of the search is trained again, which says nothing new to who proposes."""
        return self.phase == "confirm"

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
        if self.score is not None:
            _check_number("a score", self.score)
        if type(self.epochs) is not int:
            raise ValueError(f"the epochs of a result are a whole number, not {self.epochs!r}")
        for name in ("seconds", "started", "finished"):
            _check_number(name, getattr(self, name))
        _check_metrics(self.metrics)

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


def _check_metrics(metrics: object) -> None:
    if not isinstance(metrics, Mapping):
        raise ValueError(f"metrics are numbers by name, not {metrics!r}")  # noqa: TRY004
    for name, value in metrics.items():
        _check_number(name, value)


def _check_number(name: str, value: object) -> None:
    # Comparing, unlike math.isfinite, also answers for a whole number that is too large for a float.
    if not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{name} is a finite number, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the trials of one network at its largest budget say together.

    `trial` and `result` are the first of them, the search's own; `scores` are of all, in the order of their numbers.
    """

    trial: Trial
    result: Result
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean score over the seeds."""
        return mean_of(self.scores)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the score over the seeds, as `spread_of` says; None for one seed."""
        return spread_of(self.scores)


def mean_of(scores: Sequence[float]) -> float:
    """Mean over seeds, of which there is at least one."""
    return statistics.fmean(scores)


def spread_of(scores: Sequence[float]) -> float | None:
    """Standard deviation over seeds (n - 1 in the divisor); None for one seed."""
    return statistics.stdev(scores) if len(scores) > 1 else None


def standings(scored: Iterable[tuple[Trial, Result]]) -> list[Standing]:
    """Every network that has a score, best first.

    The largest budget comes first; at a budget, networks that were trained from several seeds before those with a
    single score, which says less; then the mean decides, and of equals the earlier trial leads.
    """
    largest: dict[str, int] = {}
    groups: dict[str, list[tuple[int, Trial, Result]]] = {}
    for trial, result in scored:
        if trial.budget > largest.get(trial.key, 0):
            largest[trial.key], groups[trial.key] = trial.budget, []
        if trial.budget == largest[trial.key]:
            groups[trial.key].append((trial.number, trial, result))
    found = []
    for group in groups.values():
        group.sort(key=lambda entry: entry[0])
        scores = tuple(result.score for _, _, result in group if result.score is not None)
        found.append(Standing(trial=group[0][1], result=group[0][2], scores=scores))
    return sorted(found, key=lambda s: (-s.trial.budget, len(s.scores) == 1, -s.mean, s.trial.number))


class History:
    """All trials asked and all results told, in the order in which that happened.

    Refuses a trial out of turn, a result for a trial that was never asked, and a second result for the same trial.
    """

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.results: dict[int, Result] = {}
        self.events: list[Trial | Result] = []
        self._scored: list[tuple[Trial, Result]] = []
        self._searched: list[tuple[Trial, Result]] = []
        self._pending: dict[int, Trial] = {}
        self._best: tuple[Trial, Result] | None = None
        self._since_best = 0

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
            told = self.trials[result.trial], result
            self._scored.append(told)
            if not told[0].is_repeat:
                self._searched.append(told)
                self._since_best += self._best is not None and told[0].budget == self._best[0].budget
                if self._best is None or best_first(told) < best_first(self._best):
                    self._best, self._since_best = told, 0

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

    def searched(self) -> Sequence[tuple[Trial, Result]]:
        """The same without repeats: what may be learned from. Not to be changed."""
        return self._searched

    @property
    def since_best(self) -> int:
        """Scores at the largest budget that has one, since the best of them; 0 before the first. Repeats aside."""
        return self._since_best

    def leader(self) -> Standing | None:
        """The best network at the largest budget that has a score: the first of `standings`."""
        if self._best is None:
            return None
        if len(self._searched) == len(self._scored):  # no repeats: known without a look at all
            trial, result = self._best
            return Standing(trial=trial, result=result, scores=(result.score or 0.0,))
        return standings(pair for pair in self._scored if pair[0].budget == self._best[0].budget)[0]

    def best(self) -> tuple[Trial, Result] | None:
        """The leader's own trial, and how it ended."""
        leader = self.leader()
        return None if leader is None else (leader.trial, leader.result)


def best_first(scored: tuple[Trial, Result]) -> tuple[int, float, int]:
    """Orders trials that have a score, best first: by larger budget, then higher score, then lower number."""
    trial, result = scored
    return -trial.budget, -(result.score or 0.0), trial.number
