"""The `nasflow` command. stdout is data, stderr is logs and progress; docs/command-line.md lists the exit codes.

Commands import what they need when they run, so that `--help` and reading a run stay fast.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import nasflow_cli
from nasflow_cli.cli import check, export, fetch, init, inspect, search, space, train
from nasflow_cli.cli.output import data_stream, emit, open_streams, say
from nasflow_cli.cli.signals import leave_on_signals
from nasflow_cli.core.errors import NasflowError

app = typer.Typer(
    name="nasflow",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural architecture search from one YAML file.",
    epilog="Exit codes: 0 done, 1 unexpected, 2 bad usage or config, 3 no valid trial, 4 environment, "
    "5 run directory locked or damaged, 75 stopped early, 129 SIGHUP, 130 SIGINT, 143 SIGTERM.",
)


def _version(wanted: bool) -> None:
    if wanted:
        emit(f"nasflow {nasflow_cli.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search a network's structure and its operators with two BOHBs that take turns."""


app.command("init")(init.init)
app.command("fetch")(fetch.fetch)
app.command("check")(check.check)
app.command("space")(space.space)
app.command("search")(search.search)
app.command("resume")(search.resume)
app.command("status")(inspect.status)
app.command("leaderboard")(inspect.leaderboard)
app.command("show")(inspect.show)
app.command("train")(train.train)
app.command("export-best")(export.export_best)


def main() -> None:
    """Run the command line. Every error that a user can mend is one message on stderr and a documented exit code."""
    open_streams()
    leave_on_signals()
    try:
        with data_stream():
            app()
    except NasflowError as error:
        say(f"nasflow: error: {error}" if "\n" not in str(error) else f"nasflow: errors:\n{error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
