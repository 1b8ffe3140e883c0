"""An experiment on disk to spoil in one place or in many, with everything that ships registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import nasflow_cli.execute
import nasflow_cli.nets
import nasflow_cli.train.child
import nasflow_cli.train.data  # noqa: F401
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.experiment_file import load_experiment

EXPERIMENT = """\
name: small
seed: 3
data:
  source: digits
space:
  stem: {width: [8, 16]}
  cells:
    body:
      nodes: [1, 2]
      operations: [conv3x3, skip]
  stages:
    - {cell: body, width: [8, 16]}
    - {cell: body, width: 16, stride: 2}
  activation: {choices: [relu, gelu], per: stage}
search:
  trials: 9
  budget: {min: 1, max: 9}
training:
  learning_rate: 1e-3
"""

Load = Callable[..., ExperimentConfig]


def _no_plugins(modules: Sequence[str]) -> None:
    assert list(modules) == []


@pytest.fixture
def experiment() -> str:
    return EXPERIMENT


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write the text as `e.yaml` and load it with these `--set` options."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, *options: str, load_plugins: Callable[[Sequence[str]], None] = _no_plugins) -> ExperimentConfig:
        Path("e.yaml").write_text(text, encoding="utf-8")
        return load_experiment(Path("e.yaml"), options, load_plugins)

    return read


@pytest.fixture
def mistakes(load: Load, experiment: str) -> Callable[..., list[str]]:
    """The lines of the complaint about the experiment in which each text is replaced by another."""

    def spoil(*changes: tuple[str, str], options: Sequence[str] = ()) -> list[str]:
        text = experiment
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the experiment"
            text = text.replace(old, new)
        with pytest.raises(ConfigError) as caught:
            load(text, *options)
        return str(caught.value).split("\n")

    return spoil
