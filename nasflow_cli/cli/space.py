"""`nasflow space`: what a space holds, with samples and a drawing, before anything is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasflow_cli.cli.options import JsonOption, SetOption
from nasflow_cli.cli.output import emit, say
from nasflow_cli.cli.text import count
from nasflow_cli.core.counted import counted
from nasflow_cli.core.errors import ConfigError

if TYPE_CHECKING:
    from nasflow_cli.core.config import ExperimentConfig
    from nasflow_cli.survey import Range, Sample, Survey

_WORDS = {
    "params": "parameters",
    "flops": "FLOPs (2 per multiply-add)",
    "depth": "layers deep",
    "activation_bytes": "bytes of activations an example",
}


def space(
    config: Annotated[Path, typer.Argument(help="The experiment, a YAML file.", show_default=False)],
    sample: Annotated[int, typer.Option("--sample", min=0, max=10_000, help="How many sampled members to show.")] = 3,
    draw: Annotated[
        Path | None, typer.Option("--draw", help="Draw the first sampled member that may be trained into an SVG file.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="CxHxW:CLASSES",
            help="Take this shape and number of classes, not the data's: 3x32x32:10, or 13:3 for vectors.",
        ),
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a space: size of both domains, ranges of costs, samples, a drawing."""
    from nasflow_cli import assemble, survey  # noqa: PLC0415  (torch)
    from nasflow_cli.store.files import write_whole  # noqa: PLC0415

    experiment = assemble.load(config, overrides or [])
    if draw is not None and not draw.absolute().parent.is_dir():
        raise ConfigError(f"--draw: there is no folder {draw.absolute().parent}; make it first")
    given = _shape(shape) if shape is not None else assemble.load_input(experiment)
    assemble.check_input(experiment, given[0])
    found = survey.survey(experiment, *given, num_samples=max(survey.NUM_SAMPLES, sample))
    emit(_document(experiment, found, given, sample) if as_json else _text(experiment, found, given, sample))
    if draw is not None:
        chosen = next((one for one in found.samples if not one.broken), found.samples[0])
        write_whole(draw, survey.drawing(chosen, f"A member of {experiment.name}"))
        say(f"drawn: {draw}")


def _shape(text: str) -> tuple[tuple[int, ...], int]:
    sides, _, classes = text.lower().partition(":")
    numbers = tuple(int(side) if side.isdecimal() else 0 for side in [*sides.split("x"), classes])
    if len(numbers) not in (2, 4) or min(numbers[:-1]) < 1 or numbers[-1] < 2:
        raise ConfigError(f"--input: {text!r} is no shape; write channels x height x width:classes, as in 3x32x32:10")
    return numbers[:-1], numbers[-1]


def _document(
    experiment: ExperimentConfig, found: Survey, given: tuple[tuple[int, ...], int], num_samples: int
) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": experiment.name,
        "input": list(given[0]),
        "classes": given[1],
        "structure": {"settings": found.sizes[0], "parameters": found.parameters[0]},
        "operators": {"settings": found.sizes[1], "parameters": found.parameters[1]},
        "members": {
            "count": found.members.count,
            "exact": found.members.exact,
            "relative_error": found.members.error,
        },
        "sampled": len(found.samples),
        "feasible_share": found.feasible_share,
        "distinct_share": found.distinct_share,
        "ranges": {name: [r.low, r.median, r.high] for name, r in found.ranges.items()},
        "samples": [_sample(one) for one in found.samples[:num_samples]],
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "key": sample.key,
        "params": sample.cost.params,
        "flops": sample.cost.flops,
        "depth": sample.cost.depth,
        "activation_bytes": sample.cost.activation_bytes,
        "broken": list(sample.broken),
        **sample.architecture.to_json(),
    }


def _text(experiment: ExperimentConfig, found: Survey, given: tuple[tuple[int, ...], int], num_samples: int) -> str:
    shape = "x".join(map(str, given[0]))
    lines = [
        f"{experiment.name}: a space for {shape} inputs and {given[1]} classes",
        *(
            f"  {half:<12}{_settings(size)} settings of {counted(number, 'parameter')}"
            for half, size, number in zip(("structure", "operators"), found.sizes, found.parameters, strict=True)
        ),
        f"  {'members':<12}{_members(found)}",
        f"  {'sampled':<12}{len(found.samples)}: {found.feasible_share:.0%} may be trained, "
        f"{found.distinct_share:.0%} are different computations",
        *(f"  {'':<12}{_range(r)} {_WORDS[name]}" for name, r in found.ranges.items()),
    ]
    for number, one in enumerate(found.samples[:num_samples], start=1):
        lines += ["", *_sample_lines(number, one)]
    return "\n".join(lines)


def _settings(size: int | None) -> str:
    return "continuous" if size is None else f"{size:,}" if size < 10**9 else f"{size:.3g}"


def _members(found: Survey) -> str:
    members = found.members
    if members.count is None:
        return "not countable: a parameter is continuous"
    number = f"{members.count:,.0f}" if members.count < 10**9 else f"{members.count:.3g}"
    if members.exact:
        return f"{number} (exact)"
    if members.error > 0.2:
        return f"about 10^{math.log10(members.count):.0f} (estimated)"
    return f"about {members.count:.2g} (estimated, +-{members.error:.1%})"


def _range(r: Range) -> str:
    return f"{count(r.low)} to {count(r.high)} (median {count(r.median)})"


def _sample_lines(number: int, sample: Sample) -> list[str]:
    about = sample.cost
    lines = [
        f"sample {number}  key {sample.key}  {count(about.params)} parameters, {count(about.flops)} FLOPs, "
        f"{about.depth} layers deep"
    ]
    lines += [f"  may not be trained: {why}" for why in sample.broken]
    for half in ("structure", "operators"):
        values = ", ".join(f"{name}={value}" for name, value in getattr(sample.architecture, half).items())
        lines.append(f"  {half}: {values or 'nothing to choose'}")
    return lines
