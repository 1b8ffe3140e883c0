"""`nasflow check`: validates everything short of training, and prints what a search would do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasflow_cli.cli.options import JsonOption, SetOption
from nasflow_cli.cli.output import emit
from nasflow_cli.cli.text import count, input_shape
from nasflow_cli.core.counted import counted

if TYPE_CHECKING:
    from nasflow_cli.assemble import Experiment


def check(
    config: Annotated[Path, typer.Argument(help="The experiment, a YAML file.", show_default=False)],
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate an experiment and print the plan: space, rungs, trials, epochs, disk."""
    from nasflow_cli import assemble  # noqa: PLC0415  (torch)

    plan = _plan(assemble.check(assemble.load(config, overrides or [])))
    emit(plan if as_json else _text(plan))


def _plan(experiment: Experiment) -> dict[str, Any]:
    from nasflow_cli import assemble  # noqa: PLC0415
    from nasflow_cli.execute.devices import children_of_devices  # noqa: PLC0415
    from nasflow_cli.optim.plan import num_planned, planned_brackets, planned_repeats, search_phases, turn_phase  # noqa: PLC0415
    from nasflow_cli.train.schedule import Schedule  # noqa: PLC0415

    config, space = experiment.config, experiment.space
    brackets = planned_brackets(config.search.budget, config.search.turn_brackets, config.search.trials)
    repeats = planned_repeats(config.search)

    def schedule(budget: int) -> Schedule:
        return Schedule(recipe=config.training, budget=budget, horizon=config.search.budget.max)

    epochs = sum(plan.num_epochs(lambda budget: schedule(budget).stem) for _, plan in brackets) + repeats.num_epochs

    low, high = experiment.cost_range or (None, None)
    workers = assemble.worker_names(config)
    # Each open rung keeps some checkpoints.
    num_workers = len(workers) or config.executor.workers or 0
    kept = max(plan.counts[0] for _, plan in brackets) + num_workers + 3 + repeats.networks
    files = 2 if any(schedule(budget).leaves_stem for _, plan in brackets for budget in plan.budgets) else 1
    return {
        "schema_version": 1,
        "name": config.name,
        "data": _data(experiment),
        "table": _table(experiment),
        "space": {
            "structure": space.size("structure"),
            "operators": space.size("operators"),
            "feasible_share": experiment.feasible_share,
            "params": None if low is None or high is None else [low.params, high.params],
            "flops": None if low is None or high is None else [low.flops, high.flops],
        },
        "brackets": [
            {
                "turn": turn,
                "phase": turn_phase(turn, search_phases(config.search, space.searched)),
                "counts": list(plan.counts),
                "budgets": list(plan.budgets),
            }
            for turn, plan in brackets
        ],
        "confirm": asdict(repeats),
        "trials": num_planned(config.search),
        "children": sum(plan.counts[0] for _, plan in brackets),
        "epochs": epochs,
        "workers": workers,
        "executor": {
            "kind": config.executor.kind,
            "cluster": config.executor.cluster,
            "at_most": config.executor.workers,
        },
        "children_of_devices": {} if config.executor.cluster else children_of_devices(assemble.slots(config)),
        "notes": list(experiment.notes),
        "disk_bytes": 0
        if config.table is not None or high is None
        else kept * files * _checkpoint_bytes(high.params, config.training.optimizer),
    }


def _checkpoint_bytes(params: int, optimizer: str) -> int:
    """A checkpoint holds the weights, their average and one or two moments, 4 bytes each."""
    return (3 if optimizer == "sgd" else 4) * 4 * params


def _data(experiment: Experiment) -> dict[str, Any] | None:
    data = experiment.data
    if data is None:
        return None
    return {
        "source": experiment.config.data_section.source,
        "shape": list(data.input_shape),
        "classes": data.num_classes,
        "train": data.num_train,
        "validation": data.num_validation,
        "test": data.num_test,
        "revision": data.record.revision,
        "bytes": data.num_bytes,
        "streamed": data.is_streamed,
    }


def _table(experiment: Experiment) -> dict[str, Any] | None:
    table = experiment.table
    if table is None:
        return None
    return {
        "path": str(table.columns.path),
        "rows": len(table.rows),
        "budgets": sorted(table.config.scores),
        "with_row": experiment.with_row,
    }


def _text(plan: dict[str, Any]) -> str:
    space = plan["space"]
    sizes = [count(space[half]) if space[half] is not None else "continuous" for half in ("structure", "operators")]
    turns = [
        f"    turn {b['turn'] + 1:<3} {b['phase']:<10} "
        + "  ->  ".join(f"{n} to epoch {e}" for n, e in zip(b["counts"], b["budgets"], strict=True))
        for b in plan["brackets"]
    ]
    if len(turns) > 8:
        turns = [*turns[:6], f"    ... {len(turns) - 7} more ...", turns[-1]]
    confirm = plan["confirm"]
    if confirm["networks"]:
        turns.append(
            f"    confirm  the best {confirm['networks']} again from scratch to epoch {confirm['budget']}, "
            f"{confirm['repeats']} times each"
        )
    return "\n".join(
        [
            f"{plan['name']}: the experiment is valid",
            *_source_text(plan),
            f"  space     {sizes[0]} structures x {sizes[1]} operator settings; "
            f"{space['feasible_share']:.0%} of sampled members may be trained",
            *_cost_text(space),
            f"  plan      {counted(plan['trials'], 'trial')} of {counted(plan['children'], 'network')}"
            + ("" if plan["table"] else f", {counted(plan['epochs'], 'epoch')}"),
            *turns,
            f"  workers   {_workers_text(plan)}",
            *_sharing_text(plan["children_of_devices"]),
            *(
                []
                if plan["table"]
                else [f"  disk      up to about {count(plan['disk_bytes'])}B of checkpoints at a time"]
            ),
            *(f"  note      {note}" for note in plan["notes"]),
        ]
    )


def _workers_text(plan: dict[str, Any]) -> str:
    executor, names = plan["executor"], ", ".join(plan["workers"])
    if executor["cluster"]:
        at_most = "" if executor["at_most"] is None else f", at most {executor['at_most']}"
        return f"as many as the Ray cluster {executor['cluster']} has room for{at_most}; it is not asked here"
    return f"{names}, on a Ray that is started for the search" if executor["kind"] == "ray" else names


def _source_text(plan: dict[str, Any]) -> list[str]:
    data, table = plan["data"], plan["table"]
    lines = []
    if data:
        lines.append(
            f"  data      {data['source']}, {input_shape(data['shape'])}, {data['classes']} classes; "
            f"{data['train']} train, {data['validation']} validation, {data['test']} test (never seen by the search)"
        )
    if data and data["revision"]:
        lines.append(f"            commit {data['revision']}")
    if data and data["streamed"]:
        lines.append(f"            streamed: {count(data['bytes'])}B decoded, written to the run directory first")
    if table:
        budgets = ", ".join(str(budget) for budget in table["budgets"])
        lines.append(
            f"  table     {table['path']}: {table['rows']} rows, scores at {budgets}; {table['with_row']:.0%} of the "
            "sampled members have a row"
        )
    return lines


def _sharing_text(children: dict[str, int]) -> list[str]:
    return [
        f"            {num} share cuda:{device}, each an equal part of its memory"
        for device, num in children.items()
        if num > 1
    ]


def _cost_text(space: dict[str, Any]) -> list[str]:
    if space["params"] is None:
        return []
    return [
        f"            {count(space['params'][0])} to {count(space['params'][1])} parameters, "
        f"{count(space['flops'][0])} to {count(space['flops'][1])} FLOPs an example (2 per multiply-add)"
    ]
