"""An experiment with its table beside it, and a script that is run over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any


def written(folder: Path, experiment: str, rows: Iterable[str]) -> Path:
    """Write an experiment that names `results.csv`, and that table, the first row being its header."""
    (folder / "results.csv").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    path = folder / "small.yaml"
    path.write_text(experiment, encoding="utf-8")
    return path


def measured(main: Callable[[Sequence[str]], int], config: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code of a script and the document that it wrote, empty without one."""
    out = config.parent / "out.json"
    code = main(["--config", str(config), "--json", str(out), *options])
    return code, json.loads(out.read_text()) if out.exists() else {}
