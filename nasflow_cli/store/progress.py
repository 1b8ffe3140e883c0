"""How far a training is that has not ended: what its worker wrote after each epoch. Changes nothing.

The lines are not synced, and are read while they are written: what is not a whole line of an epoch is passed over.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from nasflow_cli.store.run_directory import RunDirectory, TrialDirectory

_FINAL = re.compile(r"trial(\d{1,9})-epochs(\d{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the training of a trial or a seed is.

    `epoch` is the last that ended, counted from the network's first, None where none has; `paid` counts its own.
    """

    number: int
    epoch: int | None
    paid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalProgress:
    """A final training under way: the seeds that have a result, and those that were begun and have none."""

    trial: int
    epochs: int
    finished: tuple[int, ...]
    unfinished: tuple[Progress, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as `nasflow status --json` shows it."""
        return {
            "trial": self.trial,
            "epochs": self.epochs,
            "finished": list(self.finished),
            "unfinished": [{"number": each.number, "epoch": each.epoch} for each in self.unfinished],
        }


def recorded_epochs(files: TrialDirectory) -> list[dict[str, float]]:
    """The whole lines of a training's metrics, one an epoch that it has paid for."""
    if not files.metrics.exists():
        return []
    lines = files.metrics.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [line for line in map(_line, lines) if line is not None]


def _line(text: str) -> dict[str, float] | None:
    try:
        line = json.loads(text)
        return {"epoch": int(line["epoch"]), "train_loss": float(line["train_loss"]), "seconds": float(line["seconds"])}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def progress_of(number: int, files: TrialDirectory) -> Progress:
    """How far a training is by its files."""
    lines = recorded_epochs(files)
    return Progress(number=number, epoch=int(lines[-1]["epoch"]) if lines else None, paid=len(lines))


def final_work(run: RunDirectory, trial: int, epochs: int) -> str:
    """What the run's lock says while a final training holds it: the name of the folder that it is in."""
    return run.final_training(trial, epochs, 0).root.parent.name


def final_progress(run: RunDirectory, work: str | None) -> FinalProgress | None:
    """The final training that the holder of the lock says it works on; None where it does not say such a thing."""
    match = _FINAL.fullmatch(work or "")
    if match is None:
        return None
    trial, epochs = int(match[1]), int(match[2])
    folder = run.final_training(trial, epochs, 0).root.parent
    names = [path.name.removeprefix("seed") for path in folder.glob("seed*")]
    seeds = {int(name): run.final_training(trial, epochs, int(name)) for name in names if name.isdecimal()}
    return FinalProgress(
        trial=trial,
        epochs=epochs,
        finished=tuple(sorted(number for number, files in seeds.items() if files.result.exists())),
        unfinished=tuple(
            progress_of(number, files) for number, files in sorted(seeds.items()) if not files.result.exists()
        ),
    )
