"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run directory or its name; the newest by default.")
]
RunsOption = Annotated[Path, typer.Option("--runs", help="The folder that run directories are in.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as search.trials=40. May be repeated."),
]
