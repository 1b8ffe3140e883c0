"""`nasflow fetch`: puts the archive of a known data set on the disk, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasflow_cli.cli.output import emit, say
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.registry import nearest


def fetch(
    name: Annotated[str, typer.Argument(help="cifar10 or cifar100.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The folder that the archive is put into.")] = Path("data"),
    url: Annotated[
        str | None, typer.Option("--url", help="A mirror of the same file; its checksum is not another one.")
    ] = None,
) -> None:
    """Fetch a data set from its official address; the path of the archive is the line on stdout."""
    from nasflow_cli.fetch import ARCHIVES, address_of  # noqa: PLC0415
    from nasflow_cli.fetch import fetch as fetch_archive  # noqa: PLC0415

    if name not in ARCHIVES:
        near = nearest(name.lower(), list(ARCHIVES))
        raise ConfigError(f"there is no data set {name!r} to fetch{near}; known: {', '.join(ARCHIVES)}")
    archive = ARCHIVES[name]
    say(f"fetching {address_of(archive, url)} ({archive.size / 1e6:.0f} MB)")
    path = fetch_archive(archive, out, url)
    emit(path)
    say(f"its checksum is right; next: nasflow init --data {path}   (or data: {{source: cifar_binary, path: {path}}})")
