"""`nasflow train`: the best network, trained from scratch on all but the test data, and tested once."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasflow_cli.cli.leaving import cut_off
from nasflow_cli.cli.options import JsonOption, RunArgument, RunsOption
from nasflow_cli.cli.output import emit, say
from nasflow_cli.cli.signals import heeded
from nasflow_cli.cli.text import duration, final_summary, table
from nasflow_cli.core.errors import NoValidTrialError

if TYPE_CHECKING:
    from nasflow_cli.final import Plan, Trained
    from nasflow_cli.store.run_directory import RunDirectory


def train(  # noqa: PLR0913, PLR0917 - one argument an option
    run: RunArgument = None,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="Trial number; the best by default.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs of training; the search's largest budget by default.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings, each from a seed of its own.")] = 1,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", min=0, help="Stop early (exit code 75) after so many seconds.")
    ] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Train a network from scratch on training and validation data, and test it once. Interrupted, it goes on."""
    from nasflow_cli import final  # noqa: PLC0415  (torch)
    from nasflow_cli.search import Stop  # noqa: PLC0415
    from nasflow_cli.store.run_directory import open_run  # noqa: PLC0415

    directory = open_run(run, runs)
    plan = final.plan(directory, trial, epochs, seeds)
    stop, began = Stop(), time.monotonic()

    def out_of_time() -> bool:
        return time_limit is not None and time.monotonic() - began >= time_limit

    with (
        cut_off(_again(directory, plan)),
        final.open_training(directory, plan, say, stop, out_of_time) as training,
        heeded(stop),
    ):
        trained = training.work()
    if trained.training is None and trained.finished:
        raise NoValidTrialError(_all_failed(directory, trained))
    emit(_document(directory, trained) if as_json else _text(trained))
    if not trained.finished:
        say(f"stopped early: {stop.why}; go on with: {_again(directory, plan)}")
        sys.exit(stop.exit_code)


def _again(directory: RunDirectory, plan: Plan) -> str:
    return f"nasflow train {directory.root} --trial {plan.trial.number} --epochs {plan.epochs} --seeds {plan.num_seeds}"


def _all_failed(directory: RunDirectory, trained: Trained) -> str:
    examples = "; ".join(sorted(set(trained.failed.values()))[:3])
    return f"not one seed has a result ({examples}); the logs are under {directory.final}"


def _document(directory: RunDirectory, trained: Trained) -> dict[str, Any]:
    plan = trained.plan
    none = {"trial": plan.trial.number, "key": plan.trial.key, "epochs": plan.epochs, "mean": None, "spread": None}
    return {
        "schema_version": 1,
        "run": str(directory.root),
        "finished": trained.finished,
        **({**none, "seeds": []} if trained.training is None else trained.training.to_json()),
        "failed": [{"number": number, "error": error} for number, error in sorted(trained.failed.items())],
    }


def _text(trained: Trained) -> str:
    if trained.training is None:
        return "no seed has a result yet"
    rows = [
        [str(each.number), f"{each.test_accuracy:.4f}", f"{each.test_loss:.4f}", duration(each.seconds)]
        for each in trained.training.results
    ]
    lines = [table(["seed", "test accuracy", "test loss", "time"], rows), final_summary(trained.training)]
    if trained.failed:
        lines.append(f"failed: seeds {', '.join(map(str, sorted(trained.failed)))} of {trained.plan.num_seeds}")
    return "\n".join(lines)
