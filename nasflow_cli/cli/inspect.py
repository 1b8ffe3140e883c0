"""`nasflow status`, `leaderboard` and `show`: read a run, also while it is searched. They change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nasflow_cli.cli.options import JsonOption, RunArgument, RunsOption
from nasflow_cli.cli.output import emit, say
from nasflow_cli.cli.text import count, duration, final_summary, network, table
from nasflow_cli.core.counted import counted
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.trial import History, Result, Trial, mean_of, spread_of
from nasflow_cli.store.final_results import final_trainings
from nasflow_cli.store.journal import header_of, history_of, no_score, read_events
from nasflow_cli.store.leaderboard import leaderboard_json, leaderboard_rows
from nasflow_cli.store.lock import holder
from nasflow_cli.store.progress import final_progress, progress_of
from nasflow_cli.store.run_directory import RunDirectory, open_run

MOST_RUNNING = 8
"""Running trials of which `status` says how far they are; with --json it says so of all."""


def _read(run: str | None, runs: Path) -> tuple[RunDirectory, list[dict[str, Any]], History]:
    directory = open_run(run, runs)
    events = read_events(directory.journal) if directory.journal.exists() else []
    return directory, events, history_of(events, directory.journal)


def leaderboard(
    run: RunArgument = None,
    runs: RunsOption = Path("runs"),
    top: Annotated[int, typer.Option("--top", min=0, help="Rows to print; 0 for all.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Print the best networks of a run, best first; those of the largest budget come before all others."""
    directory, _, history = _read(run, runs)
    rows, final = leaderboard_rows(history), final_trainings(directory)
    if as_json:
        emit({**leaderboard_json(rows), "final": [training.to_json() for training in final]})
        return
    shown = rows[:top] if top else rows
    repeated = any(row.seeds > 1 for row in shown)
    cells = [
        [
            str(row.rank),
            str(row.trial),
            f"{row.score:.4f}",
            *([] if not repeated else ["" if row.spread is None else f"{row.spread:.4f}", str(row.seeds)]),
            str(row.budget),
            count(row.params),
            count(row.flops),
            duration(row.seconds),
            row.phase,
            network(row.structure, row.operators),
        ]
        for row in shown
    ]
    more = ["spread", "seeds"] if repeated else []
    header = ["rank", "trial", "score", *more, "epochs", "params", "flops", "time", "phase", "network"]
    left = (len(header) - 2, len(header) - 1)
    emit("\n".join([table(header, cells, left=left), *map(final_summary, final)]))
    if len(shown) < len(rows):
        say(f"{len(rows) - len(shown)} more; all of them: nasflow leaderboard --top 0")
    if not rows:
        say(f"{directory.root} has no scored trial yet")


def status(run: RunArgument = None, runs: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Tell how far a run is, whether it is being worked on, and what is best so far."""
    directory, events, history = _read(run, runs)
    facts = _status(directory, events, history)
    emit(facts if as_json else _status_text(facts))


def _status(directory: RunDirectory, events: list[dict[str, Any]], history: History) -> dict[str, Any]:
    writer, best = holder(directory.lock), history.leader()
    finished = bool(events) and events[-1]["event"] == "finished"
    last = history.trials[-1] if history.trials else None
    header = header_of(events, directory.journal)
    measured = [t.proposal.correlation for t in history.trials if t.proposal.correlation is not None]
    state = "running" if writer else "finished" if finished else "stopped"
    final = None if writer is None else final_progress(directory, writer.work)
    return {
        "schema_version": 1,
        "run": str(directory.root),
        "state": state,
        "writer": str(writer) if writer else None,
        "reason": events[-1].get("reason") if finished else None,
        "data": header.data.to_json() if header is not None and header.data is not None else None,
        "trials": {
            "planned": _planned(directory),
            "asked": len(history.trials),
            "scored": sum(1 for result in history.results.values() if result.score is not None),
            "failed": sum(1 for result in history.results.values() if result.score is None),
            "pending": [trial.number for trial in history.pending()],
        },
        "running": _running(directory, history) if writer and final is None else [],
        "final_training": None if final is None else final.to_json(),
        "turn": last.turn if last else None,
        "phase": last.phase if last else None,
        "correlation": measured[-1] if measured else None,
        "epochs": sum(result.epochs for result in history.results.values()),
        # What the same scores would have cost if no child had gone on from a checkpoint.
        "epochs_from_scratch": sum(trial.budget for trial, _ in history.scored()),
        "worker_seconds": round(sum(result.seconds for result in history.results.values()), 1),
        "best": None
        if best is None
        else {
            **_trial_json(best.trial, best.result),
            **{"mean": best.mean, "spread": best.spread, "seeds": len(best.scores)},
        },
    }


def _running(directory: RunDirectory, history: History) -> list[dict[str, Any]]:
    """How far the trials without a result are, by what their workers wrote; `epoch` is null before their first."""
    far = [(trial, progress_of(trial.number, directory.trial(trial.number))) for trial in history.pending()]
    return [
        {"trial": trial.number, "epoch": each.epoch, "budget": trial.budget, "epochs": each.paid} for trial, each in far
    ]


def _planned(directory: RunDirectory) -> int | None:
    from pydantic import ValidationError  # noqa: PLC0415

    from nasflow_cli.core.load import read_yaml  # noqa: PLC0415
    from nasflow_cli.core.search_config import SearchConfig  # noqa: PLC0415
    from nasflow_cli.optim.plan import num_planned  # noqa: PLC0415

    if not directory.resolved_config.exists():
        return None
    section = read_yaml(directory.resolved_config).data.get("search")
    try:
        return num_planned(SearchConfig.model_validate_json(json.dumps(section)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("search", *first["loc"])))
        raise ConfigError(
            f"{directory.resolved_config}: {where}: {first['msg']}; put back what nasflow wrote there"
        ) from error


def _trial_json(trial: Trial, result: Result | None) -> dict[str, Any]:
    return {**trial.to_json(), "result": result.to_json() if result else None}


def _data_lines(data: dict[str, Any] | None) -> list[str]:
    return [] if data is None or data["revision"] is None else [f"data      commit {data['revision']} on the hub"]


def _status_text(facts: dict[str, Any]) -> str:
    trials, final, running = facts["trials"], facts["final_training"], facts["running"]
    is_searching = facts["state"] == "running" and final is None
    state = "final training" if final else facts["state"]
    why = f" ({facts['writer'] or facts['reason']})" if facts["writer"] or facts["reason"] else ""
    planned = f" of {trials['planned']}" if trials["planned"] is not None else ""
    under_way = sum(each["epochs"] for each in running)
    lines = [
        f"run       {facts['run']}",
        f"state     {state}{why}",
        *_data_lines(facts["data"]),
        *([] if final is None else [f"training  {_final_text(final)}"]),
        f"trials    {trials['scored'] + trials['failed']}{planned} ended, {trials['failed']} failed, "
        f"{len(trials['pending'])} {'running' if is_searching else 'unfinished'}",
        *([f"running   {_running_text(running)}"] if running else []),
        f"paid      {counted(facts['epochs'], 'epoch')} ({facts['epochs_from_scratch']} if each rung began anew), "
        f"{duration(facts['worker_seconds'])} of workers"
        + (f"; {under_way} more by what is running" if under_way else ""),
        *_turn_lines(facts, is_searching),
    ]
    best = facts["best"]
    if best:
        spread = "" if best["spread"] is None else f" +- {best['spread']:.4f} over {best['seeds']} seeds"
        lines.append(
            f"best      {best['mean']:.4f}{spread} after {counted(best['budget'], 'epoch')}: trial {best['trial']}, "
            f"{network(best['structure'], best['operators'])}"
        )
    if facts["state"] == "stopped":
        lines.append(f"go on     nasflow resume {facts['run']}")
    return "\n".join(lines)


def _turn_lines(facts: dict[str, Any], is_searching: bool) -> list[str]:
    if facts["turn"] is None:
        return []
    tau = facts["correlation"]
    said = "not measured yet" if tau is None else f"{tau:.2f}"
    if facts["phase"] == "confirm":
        doing = "confirming the best" if is_searching else "confirmed the best"
    else:
        doing = f"{'searching' if is_searching else 'searched'} {facts['phase']}"
    return [f"turn      {facts['turn'] + 1}, {doing}; predictor's rank correlation {said}"]


def _running_text(running: list[dict[str, Any]]) -> str:
    shown = [f"trial {each['trial']} {_far(each['epoch'], each['budget'])}" for each in running[:MOST_RUNNING]]
    more = [f"{len(running) - MOST_RUNNING} more"] if len(running) > MOST_RUNNING else []
    return ", ".join([*shown, *more])


def _final_text(final: dict[str, Any]) -> str:
    seeds = [f"seed {each['number']} {_far(each['epoch'], final['epochs'])}" for each in final["unfinished"]]
    finished = [f"finished: {', '.join(map(str, final['finished']))}"] if final["finished"] else []
    return f"trial {final['trial']} from scratch: " + "; ".join([", ".join(seeds) or "starting", *finished])


def _far(epoch: int | None, budget: int) -> str:
    return f"in its first epoch (of {budget})" if epoch is None else f"after epoch {epoch} of {budget}"


def show(
    run: RunArgument = None,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="Trial number; the best by default.")] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show one trial: its network, how it came to be proposed, what it was promoted from, and how it ended."""
    directory, _, history = _read(run, runs)
    number = trial
    if number is None:
        best = history.best()
        if best is None:
            raise no_score(directory)
        number = best[0].number
    if number >= len(history.trials):
        raise ConfigError(f"{directory.root} has no trial {number} (there are {len(history.trials)}, from 0)")
    shown, result = history.trials[number], history.results.get(number)
    final = [training for training in final_trainings(directory) if training.key == shown.key]
    seeds = sorted(
        (trial.number, each.score)
        for trial, each in history.scored()
        if (trial.key, trial.budget) == (shown.key, shown.budget) and each.score is not None
    )
    if as_json:
        final_json = [training.to_json() for training in final]
        emit({"schema_version": 1, **_trial_json(shown, result), **_seeds_json(seeds), "final": final_json})
    else:
        lines = _show_lines(directory, shown, result)
        emit("\n".join([*lines, *_seeds_lines(seeds, shown.budget), *map(final_summary, final)]))


def _seeds_json(seeds: list[tuple[int, float]]) -> dict[str, Any]:
    """What all trials of a network at one budget say together; `seeds` are their numbers and scores."""
    scores = [score for _, score in seeds]
    return {
        "mean": mean_of(scores) if scores else None,
        "spread": spread_of(scores) if scores else None,
        "seeds": [{"trial": number, "score": score} for number, score in seeds],
    }


def _seeds_lines(seeds: list[tuple[int, float]], budget: int) -> list[str]:
    if len(seeds) < 2:
        return []
    scores = [score for _, score in seeds]
    each = ", ".join(f"trial {number} {score:.4f}" for number, score in seeds)
    return [
        f"network   score {mean_of(scores):.4f} +- {spread_of(scores):.4f}, mean of {len(seeds)} seeds "
        f"at epoch {budget}: {each}"
    ]


def _show_lines(directory: RunDirectory, trial: Trial, result: Result | None) -> list[str]:
    proposal = trial.proposal
    lines = [
        f"trial     {trial.number}, key {trial.key}, seed {trial.seed}",
        f"where     turn {trial.turn + 1} ({trial.phase}), bracket {trial.bracket}, rung {trial.rung}, "
        f"to epoch {trial.budget}",
    ]
    if trial.is_repeat:
        lines.append("from      scratch again, from another seed, to confirm one of the best (search.confirm)")
    elif trial.parent is not None:
        lines.append(f"from      trial {trial.parent}, whose checkpoint it goes on from")
    else:
        tau = "not measured" if proposal.correlation is None else f"{proposal.correlation:.2f}"
        among = f", one of {proposal.ranked} candidates" if proposal.ranked > 1 else ""
        chosen = "chosen by the predictor" if proposal.filtered else f"not chosen by the predictor ({proposal.why})"
        lines.append(
            f"from      {proposal.source}{among}, {chosen}; rank correlation {tau}, "
            f"fitted on {counted(proposal.fitted_on, 'result')}"
        )
        if proposal.predicted is not None:
            lines.append(f"expected  {proposal.predicted:.4f}")
    if result is None:
        lines.append("result    none yet")
    elif result.score is None:
        lines.append(f"result    failed ({result.error_kind}): {result.error}")
    else:
        paid = f"{counted(result.epochs, 'epoch')} in {duration(result.seconds)}"
        lines.append(f"result    score {result.score:.4f}, {paid}")
        lines.extend(f"            {name} {value:g}" for name, value in sorted(result.metrics.items()))
        lines.extend(f"note      {note}" for note in result.notes)
    for half in ("structure", "operators"):
        values = getattr(trial.architecture, half)
        width = max((len(name) for name in values), default=0)
        lines.append(half)
        lines.extend(f"  {name:<{width}}  {value}" for name, value in values.items())
    lines.append(f"log       {directory.trial(trial.number).log}")
    return lines
