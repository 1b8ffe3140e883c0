"""A run as hpbandster's own analysis tools read it: configs.json and results.json, one JSON list a line.

The format is that of `hpbandster.core.result.json_result_logger`, which is matched here and not imported: a reader of
journals needs no hpbandster. Refuses nothing: it writes what the history says, with loss = -score.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.store.files import make_directory, write_whole
from nasflow_cli.store.run_directory import RunDirectory


def write_hpbandster_files(run: RunDirectory, history: History) -> None:
    """Write both files so that `hpbandster.core.result.logged_results_to_HBS_result(run.hpbandster)` opens the run.

    hpbandster itself cannot open a run without a single result. Raises ConfigError or RunDirectoryError as
    `write_whole` does.
    """
    make_directory(run.hpbandster)
    first_of_slot: dict[tuple[int, int, int], Trial] = {}
    for trial in history.trials:
        first_of_slot.setdefault(trial.slot, trial)
    # One result a budget is what the format holds: repeats stay out.
    results_told = (event for event in history.events if isinstance(event, Result))
    told = [result for result in results_told if not history.trials[result.trial].is_repeat]
    # Configurations first: a result whose configuration is not there yet would not load.
    write_whole(run.hpbandster / "configs.json", _lines(_config(trial) for trial in first_of_slot.values()))
    results = _lines(_result(history.trials[result.trial], result) for result in told)
    write_whole(run.hpbandster / "results.json", results)


def _config(trial: Trial) -> list[Any]:
    """`[config_id, config, config_info]`. The names carry their half, since one name may stand in both."""
    config = {f"structure.{name}": value for name, value in trial.architecture.structure.items()}
    config |= {f"operators.{name}": value for name, value in trial.architecture.operators.items()}
    info = {
        "model_based_pick": trial.proposal.source == "density",
        "source": trial.proposal.source,
        "phase": trial.phase,
        "key": trial.key,
    }
    return [list(trial.slot), config, info]


def _result(trial: Trial, result: Result) -> list[Any]:
    """`[config_id, budget, time_stamps, result, exception]`; a failure has a null result and its error's text."""
    # The journal knows when a worker took a trial up, not when it was queued.
    stamps = {"submitted": result.started, "started": result.started, "finished": result.finished}
    outcome = None
    if result.score is not None:
        info = {**result.metrics, "trial": trial.number, "score": result.score, "seconds": result.seconds}
        outcome = {"loss": -result.score, "info": info}
    return [list(trial.slot), trial.budget, stamps, outcome, result.error]


def _lines(values: Iterable[list[Any]]) -> str:
    return "".join(json.dumps(value, allow_nan=False) + "\n" for value in values)
