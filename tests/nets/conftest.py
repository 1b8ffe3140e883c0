"""Makes the spaces of `tests/core` importable, and gives tests plug-ins whose registrations end with them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nasflow_cli.core.registry import ACTIVATIONS, INITIALISERS, OPERATIONS, load_plugins

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> None:
    """Networks of this size are slower on several threads."""
    torch.set_num_threads(1)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a user's module and load it; what it registers is gone after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in (OPERATIONS, ACTIVATIONS, INITIALISERS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    def load(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        load_plugins([name])

    return load
