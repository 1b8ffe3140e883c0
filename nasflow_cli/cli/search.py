"""`nasflow search` and `nasflow resume`: one code path; a new run is a resumed one with an empty journal."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasflow_cli.cli.leaving import cut_off
from nasflow_cli.cli.options import RunArgument, RunsOption, SetOption
from nasflow_cli.cli.output import emit, say
from nasflow_cli.cli.signals import heeded
from nasflow_cli.cli.text import standing
from nasflow_cli.core.counted import counted
from nasflow_cli.core.errors import ConfigError, NoValidTrialError

if TYPE_CHECKING:
    from nasflow_cli.assemble import Experiment
    from nasflow_cli.core.config import ExperimentConfig
    from nasflow_cli.store.run_directory import RunDirectory


def search(
    config: Annotated[Path, typer.Argument(help="The experiment, a YAML file.", show_default=False)],
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Where the run is kept; an existing run of this config goes on.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Search, from YAML to leaderboard. The run directory is the last line on stdout."""
    from nasflow_cli import assemble  # noqa: PLC0415  (torch)
    from nasflow_cli.store.run_directory import RunDirectory  # noqa: PLC0415

    say(f"reading {config}")
    experiment_config = assemble.load(config, overrides or [])
    if run_dir is not None and not run_dir.parent.is_dir():
        raise ConfigError(f"--run-dir {run_dir}: the folder {run_dir.parent} does not exist; make it first")
    known = None if run_dir is None else RunDirectory(run_dir)
    _run(experiment_config, known, lambda experiment: assemble.new_run(experiment, config, run_dir))


def resume(run: RunArgument = None, runs: RunsOption = Path("runs"), overrides: SetOption = None) -> None:
    """Go on with a run after anything that stopped it. A finished run is left as it is."""
    from nasflow_cli import assemble  # noqa: PLC0415  (torch)
    from nasflow_cli.store.run_directory import open_run  # noqa: PLC0415

    directory = open_run(run, runs)
    if assemble.is_finished(directory) and not overrides:
        say(f"{directory.root} is finished; nothing is left to do")
        emit(directory.root)
        return
    say(f"reading {directory.root}")
    _run(assemble.load(directory.resolved_config, overrides or [], is_new=False), directory, lambda _: directory)


def _run(
    config: ExperimentConfig, known: RunDirectory | None, directory_for: Callable[[Experiment], RunDirectory]
) -> None:
    from nasflow_cli import assemble  # noqa: PLC0415
    from nasflow_cli.cli.progress import progress  # noqa: PLC0415
    from nasflow_cli.optim.plan import num_planned, num_searched  # noqa: PLC0415
    from nasflow_cli.search import Stop  # noqa: PLC0415
    from nasflow_cli.store.journal import recorded_data  # noqa: PLC0415

    # What the imports left is looked through by every full collection, and a long journal causes many.
    gc.freeze()
    experiment = assemble.check(config, None if known is None else recorded_data(known.journal, config.identity()))
    run = directory_for(experiment)
    stop = Stop()
    with (
        cut_off(f"nasflow resume {run.root}", run.root),
        progress(num_planned(config.search)) as shown,
        assemble.open_search(experiment, run, shown, stop) as live,
        heeded(stop),
    ):
        told = len(live.history.results)
        names = assemble.worker_names(config)
        num_workers = len(names) or live.executor.slots
        where = f": {', '.join(names)}" if names else f" on the Ray cluster {config.executor.cluster}"
        shown.note(f"run directory: {run.root}")
        planned = num_searched(config.search)
        if planned < config.search.trials:
            shown.note(
                f"the plan takes {planned} of the {config.search.trials} trials of search.trials: a bracket is begun "
                "only if it fits whole (`nasflow check` shows the plan)"
            )
        shown.note(f"{counted(num_workers, 'worker')}{where}")
        if experiment.data is not None and experiment.data.record.revision is not None:
            shown.note(f"data: {config.data_section.path} at commit {experiment.data.record.revision}")
        for note in experiment.notes:
            shown.note(f"note: {note}")
        if told:
            shown.note(f"going on after {counted(told, 'finished trial')}")
        ending = live.work()
        history = live.history
    best = history.leader()
    if best is not None:
        after = f"after {counted(best.trial.budget, 'epoch')}"
        say(f"best: trial {best.trial.number}, {standing(best)} {after}, key {best.trial.key}")
    emit(run.root)
    if not ending.finished:
        say(f"stopped early: {ending.reason}; go on with: nasflow resume {run.root}")
        sys.exit(stop.exit_code)
    if best is None:
        raise NoValidTrialError(_all_failed(run, {result.error or "" for result in history.results.values()}))
    say(f"finished: {ending.reason}; see: nasflow leaderboard {run.root}")


def _all_failed(run: RunDirectory, errors: set[str]) -> str:
    examples = "; ".join(sorted(errors)[:3])
    return f"not one trial has a score ({examples}); the logs are under {run.root / 'trials'}"
