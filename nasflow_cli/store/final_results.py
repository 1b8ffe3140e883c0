"""Final trainings: what each left behind, and their mean and spread. Beside the journal, which knows nothing of them.

A final training is told from a search's trial by its data (validation examples are trained on) and its score (of the
test split). Refuses to choose between seeds by that score: whoever needs one network takes the first seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.core.trial import mean_of, spread_of
from nasflow_cli.store.files import write_whole
from nasflow_cli.store.run_directory import RunDirectory

SCHEMA_VERSION = 1


class WeightsOf(str, Enum):
    """Whose weights of a network are handed over."""

    SEARCH = "search"
    FINAL = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalResult:
    """The final training of one trial's network from one seed.

    `number` counts the seeds from 0, `seed` is the number that training draws from. `test_accuracy` is a share of 1,
    losses are mean cross-entropies in nats, `num_train` counts training and validation examples, `gpu` tells whether a
    GPU did the arithmetic, `seconds` is wall time of the worker since it last started. `notes` say what went wrong on
    the way and was mended, one line each.
    """

    trial: int
    key: str
    epochs: int
    number: int
    seed: int
    test_accuracy: float
    test_loss: float
    train_loss: float
    num_train: int
    num_test: int
    params: int
    flops: int
    gpu: bool
    seconds: float
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("test_accuracy", "test_loss", "train_loss", "seconds"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is a finite number, not {getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """Return the plain value that the file holds."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FinalResult:
        """Read what `to_json` wrote. Raises KeyError, OverflowError, TypeError or ValueError for something else."""
        if value["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {value['schema_version']!r} is not {SCHEMA_VERSION}")
        kinds: dict[str, Any] = {
            "key": str,
            "gpu": bool,
            **dict.fromkeys(("test_accuracy", "test_loss", "train_loss", "seconds"), float),
        }
        given = {field.name: value[field.name] for field in fields(cls) if field.name != "notes"}
        notes = tuple(map(str, value.get("notes", ())))
        return cls(**{name: kinds.get(name, int)(entry) for name, entry in given.items()}, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalTraining:
    """A network's final trainings for so many epochs, one result a seed, the first seed first; at least one."""

    trial: int
    key: str
    epochs: int
    results: tuple[FinalResult, ...]

    def __post_init__(self) -> None:
        if not self.results:
            raise ValueError("a final training has at least one result")

    @property
    def mean(self) -> float:
        """Mean test accuracy over the seeds."""
        return mean_of([result.test_accuracy for result in self.results])

    @property
    def spread(self) -> float | None:
        """Standard deviation of the test accuracy over the seeds, as `spread_of` says; None for one seed."""
        return spread_of([result.test_accuracy for result in self.results])

    def to_json(self) -> dict[str, Any]:
        """Return it as documents show it."""
        return {
            "trial": self.trial,
            "key": self.key,
            "epochs": self.epochs,
            "mean": self.mean,
            "spread": self.spread,
            "seeds": [result.to_json() for result in self.results],
        }


def write_result(run: RunDirectory, result: FinalResult) -> None:
    """Write a result whole. Raises ConfigError or RunDirectoryError as `write_whole` does."""
    place = run.final_training(result.trial, result.epochs, result.number).result
    write_whole(place, json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n")


def read_result(path: Path) -> FinalResult | None:
    """Read a result; None when there is none. Raises RunDirectoryError when it is damaged."""
    try:
        return FinalResult.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RunDirectoryError(
            f"{path} is damaged ({error}); delete it, and `nasflow train` makes it again from the checkpoint beside it"
        ) from error


def final_trainings(run: RunDirectory) -> list[FinalTraining]:
    """All final trainings of a run that have a result, by trial and epochs. Raises RunDirectoryError for a damaged one.

    Changes nothing, and may be called while they are made.
    """
    found = (read_result(path) for path in run.final.glob("*/*/result.json"))
    results = sorted((each for each in found if each is not None), key=lambda r: (r.trial, r.epochs, r.number))
    return [
        FinalTraining(trial=trial, key=key, epochs=epochs, results=tuple(group))
        for (trial, key, epochs), group in groupby(results, key=lambda r: (r.trial, r.key, r.epochs))
    ]


def longest_of(trainings: Sequence[FinalTraining], key: str) -> FinalTraining | None:
    """A network's final training of the most epochs; of equals the one with more seeds. Looks at no score."""
    own = [training for training in trainings if training.key == key]
    return max(own, key=lambda training: (training.epochs, len(training.results), -training.trial), default=None)
