"""`nasflow export-best`: hands over the best network as files that need no nasflow."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from nasflow_cli.cli.options import JsonOption, RunArgument, RunsOption
from nasflow_cli.cli.output import emit, say
from nasflow_cli.cli.text import final_summary
from nasflow_cli.store.files import writing_in_a_run
from nasflow_cli.store.final_results import WeightsOf

ELSEWHERE = "name another place with --out, or make this one writable"


def export_best(
    run: RunArgument = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write; RUN/export by default.")] = None,
    weights: Annotated[
        WeightsOf | None,
        typer.Option(
            "--weights",
            help="Of the search or of the final training; by default of the final one unless it has fewer epochs.",
            show_default=False,
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Write weights, standalone source and a model card, and check them in a process without nasflow."""
    from nasflow_cli import export  # noqa: PLC0415  (torch)
    from nasflow_cli.store.run_directory import open_run  # noqa: PLC0415

    with writing_in_a_run(ELSEWHERE) if out is None else nullcontext():
        verified = export.export_best(open_run(run, runs), out, say, wanted=weights)
    if as_json:
        about = {
            "schema_version": 1,
            "directory": str(verified.directory.root),
            "trial": verified.trial,
            "score": verified.score,
            "validation_accuracy": verified.validation_accuracy,
            "test_accuracy": verified.test_accuracy,
            "final": None if verified.final is None else verified.final.to_json(),
            "max_abs_difference": verified.max_abs_difference,
        }
        emit(about)
        return
    accuracies = f"test accuracy {verified.test_accuracy:.4f}"
    if verified.validation_accuracy is not None:
        accuracies = (
            f"validation accuracy {verified.validation_accuracy:.4f} (the run's {verified.score:.4f}), {accuracies}"
        )
    if verified.final is not None:
        say(f"{final_summary(verified.final)}; exported: seed {verified.final.results[0].number}, the first")
    say(
        f"checked in a process without nasflow: largest output difference {verified.max_abs_difference:.1e}, "
        f"{accuracies}"
    )
    emit(verified.directory.root)
