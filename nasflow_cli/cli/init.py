"""`nasflow init`: writes a first experiment file, fitted to the data where some is given."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nasflow_cli.cli.output import emit, say
from nasflow_cli.core.errors import ConfigError


def init(
    data: Annotated[
        Path | None, typer.Option("--data", help="The data: a file or a folder.", show_default=False)
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Of a table, the column of the classes.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The file to write; - for stdout.")] = Path("experiment.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Trainings that the search should run.")] = None,
) -> None:
    """Write a commented experiment file: for scikit-learn's digits, or fitted to the data that is given."""
    is_stream = str(out) == "-"
    if not is_stream:
        _check_place(out, force)
    if target is not None and data is None:
        raise ConfigError("--target names a column of a table; give the table with --data")

    from nasflow_cli import assemble, initial  # noqa: PLC0415  (torch)
    from nasflow_cli.store.files import write_whole  # noqa: PLC0415

    if data is None:
        drafted = initial.digits(trials)
    else:
        slots = assemble.default_slots()
        machine = initial.Machine(workers=len(slots), has_gpu=slots[0].name.startswith("cuda"))
        folder = Path() if is_stream else out.parent
        say(f"reading {data}")
        drafted = initial.draft(data, target, folder, machine, trials)
    say(f"found {drafted.summary}")
    if is_stream:
        emit(drafted.text.removesuffix("\n"))
        return
    write_whole(out, drafted.text)
    emit(out)
    name = shlex.quote(str(out))
    say(f"next: nasflow check {name}   what it comes to\n      nasflow search {name}")


def _check_place(out: Path, force: bool) -> None:
    """Refuse before the data is read what could not be written behind it."""
    if out.is_dir():
        raise ConfigError(f"--out {out}: this is a folder; name a file in it, such as {out / 'experiment.yaml'}")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.absolute().parent}; make it first")
    if out.exists() and not force:
        raise ConfigError(
            f"{out} is there already, and is left as it is; write over it with --force, or name another file with --out"
        )
