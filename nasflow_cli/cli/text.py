"""How values are written for people: tables, counts, times, networks. Returns text; whoever calls prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasflow_cli.core.counted import counted
from nasflow_cli.core.trial import Standing
from nasflow_cli.store.final_results import FinalTraining


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> str:
    """Columns under a header, right-aligned except those in `left`."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def count(number: int | float | None) -> str:
    """A count with a suffix: 12.3k, 4.56M; `-` for none."""
    if number is None:
        return "-"
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.0f}"


def input_shape(shape: Sequence[int]) -> str:
    """What a network takes: 1x8x8 (channels x height x width), or vectors of 13 features."""
    if len(shape) == 1:
        return f"vectors of {counted(shape[0], 'feature')}"
    return f"{'x'.join(map(str, shape))} (channels x height x width)"


def duration(seconds: float) -> str:
    """Seconds as people say them: 4.2s, 3m05s, 2h07m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def network(structure: Mapping[str, Any], operators: Mapping[str, Any]) -> str:
    """An architecture in one line: depth x width of each stage, then the operations by their slots."""
    stages = sorted(
        {name.split(".")[1] for name in structure if name.startswith("stages.")},
        key=int,
    )
    parts = [
        "x".join(
            str(structure[f"stages.{s}.{what}"]) for what in ("depth", "width") if f"stages.{s}.{what}" in structure
        )
        for s in stages
    ]
    operations = [str(value) for name, value in operators.items() if name.endswith(".operation")]
    others = sorted({str(value) for name, value in operators.items() if not name.endswith(".operation")})
    shown = [f"[{' '.join(parts)}]"] if parts else []
    return " ".join([*shown, *operations, *([f"({', '.join(others)})"] if others else [])])


def final_summary(training: FinalTraining) -> str:
    """A final training in one line; what stands behind the sign is one standard deviation over the seeds."""
    num = len(training.results)
    spread = "" if training.spread is None else f" +- {training.spread:.4f}"
    return (
        f"final training of trial {training.trial}: test accuracy {training.mean:.4f}{spread}, "
        f"{f'mean of {num} seeds' if num > 1 else '1 seed'}, {counted(training.epochs, 'epoch')} on "
        f"{counted(training.results[0].num_train, 'example')}, validation included"
    )


def standing(of: Standing) -> str:
    """The score of a network in words: the mean and its spread where there are several seeds."""
    if of.spread is None:
        return f"score {of.mean:.4f}"
    return f"score {of.mean:.4f} +- {of.spread:.4f} (mean of {len(of.scores)} seeds)"
