"""The directory of an exported network: made beside its place, moved there when it is complete, replaced whole.

Refuses a place that holds anything which an earlier export did not write.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.store.files import cannot_write, make_directory, sync_directory


@dataclass(frozen=True, slots=True)
class ExportDirectory:
    """Where the files of an export lie. Knows names only."""

    root: Path

    @property
    def source(self) -> Path:
        """The network as Python source."""
        return self.root / "network.py"

    @property
    def weights(self) -> Path:
        """Its weights, as safetensors."""
        return self.root / "model.safetensors"

    @property
    def card(self) -> Path:
        """What it is and how it was found, for programs. Marks the directory as an export."""
        return self.root / "model_card.json"

    @property
    def readable_card(self) -> Path:
        """The same, for people."""
        return self.root / "model_card.md"

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return self.source, self.weights, self.card, self.readable_card


def check_place(out: Path) -> None:
    """Raise ConfigError unless an export may go to `out`: nothing there, an empty directory, or an earlier export."""
    if not os.path.lexists(out):
        return
    try:
        there = sorted(entry.name for entry in os.scandir(out))
    except OSError as error:
        raise ConfigError(f"cannot export to {out}: {error.strerror}; choose another place with --out") from error
    if not there:
        return
    if not _is_export(ExportDirectory(out)):
        raise ConfigError(
            f"{out} is not empty and was not made by `nasflow export-best`; choose another place with --out"
        )
    known = {path.name for path in ExportDirectory(out).files} | {"__pycache__"}
    foreign = [name for name in there if name not in known]
    if foreign:
        raise ConfigError(
            f"{out} holds an earlier export and also {', '.join(foreign[:3])}, which would be lost; move "
            f"{'it' if len(foreign) == 1 else 'them'}, or choose another place with --out"
        )


@contextlib.contextmanager
def staged(out: Path) -> Iterator[ExportDirectory]:
    """A new directory beside `out` that takes its place when the block ends well, and vanishes when it does not.

    Raises as `check_place` does, and ConfigError or RunDirectoryError when the place cannot be written to.
    """
    out = Path(os.path.realpath(out))
    check_place(out)
    above = [folder for folder in out.parents if not folder.exists()]
    temporary = out.parent / f".{out.name}.{secrets.token_hex(6)}"
    placed = False
    try:
        make_directory(temporary)
        yield ExportDirectory(temporary)
        check_place(out)
        try:
            _swap(temporary, out)
        except OSError as error:
            raise cannot_write(out, error) from error
        placed = True
    finally:
        if not placed:
            shutil.rmtree(temporary, ignore_errors=True)
            for folder in above:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _swap(new: Path, out: Path) -> None:
    """Put `new` in the place of `out`; what was there is back when that fails."""
    old = new.with_name(f"{new.name}.old")
    replaces = out.exists()
    if replaces:
        out.rename(old)
    try:
        new.rename(out)
    finally:
        if replaces and not out.exists():
            old.rename(out)
    sync_directory(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _is_export(directory: ExportDirectory) -> bool:
    try:
        card = json.loads(directory.card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and "nasflow" in card.get("versions", {})
