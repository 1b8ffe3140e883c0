"""docs/search-space.md: what it shows is what happens."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from shipped_spaces import ROOT, on_meta

from nasflow_cli import assemble
from nasflow_cli.cli import app
from nasflow_cli.core.registry import ACTIVATIONS, INITIALISERS, MEASURES
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.constraints import Constraints
from nasflow_cli.nets.operations import operation_facts

PAGE = (ROOT / "docs" / "search-space.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
FIRST = yaml.safe_load(SNIPPETS[0])


@pytest.fixture
def my_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's plug-in, which is gone after the test."""
    (python,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "my_measures.py").write_text(python, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(MEASURES, "_entries", dict(MEASURES._entries))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("my_measures", None)


def test_the_page_has_snippets() -> None:
    assert len(SNIPPETS) >= 12
    assert "space" in FIRST


@pytest.mark.usefixtures("my_measures")
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_is_a_space_whose_members_are_built(number: int, tmp_path: Path) -> None:
    given: dict[str, Any] = yaml.safe_load(SNIPPETS[number])
    whole = {**FIRST, **given, "space": {**FIRST["space"], **given["space"]}}
    (tmp_path / "snippet.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    shape = (7,) if whole["space"]["stem"].get("operation") == "linear" else (1, 8, 8)

    config = assemble.load(tmp_path / "snippet.yaml", [])

    assemble.check_input(config, shape)
    space = SearchSpace(config.space, operation_facts())
    constraints, rng = Constraints(config.space.constraints, shape, 10), np.random.default_rng(0)
    graphs = [space.sample_member(rng)[1] for _ in range(20)]
    fit = [graph for graph in graphs if graph.flaw is None and graph.is_connected and not constraints.violations(graph)]
    assert space.searched
    assert fit
    assert sum(p.numel() for p in on_meta(fit[0], shape).parameters()) == constraints.cost(fit[0]).params


def test_every_activation_and_initialisation_is_named() -> None:
    for registry in (ACTIVATIONS, INITIALISERS):
        for name in registry:
            if registry[name].make.__module__.startswith("nasflow_cli."):
                assert f"`{name}`" in PAGE


def test_the_transcript_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown,) = re.findall(r"\$ nasflow (space .*?)```", PAGE, flags=re.DOTALL)
    command, _, printed = shown.partition("\n")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["nasflow", *command.split()])
    monkeypatch.setattr(app, "leave_on_signals", lambda: None)
    capsys.readouterr()

    with pytest.raises(SystemExit) as ended:
        app.main()

    assert ended.value.code in (0, None)
    assert capsys.readouterr().out == printed
