"""Networks with weights as after training, plug-in modules on disk, and exported files imported by their path."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.registry import ACTIVATIONS, OPERATIONS
from nasflow_cli.nets.builder import Network, build
from nasflow_cli.nets.source import InputFacts, network_source, state_names


def _chain(*operations: str, activation: str = "relu") -> Cell:
    nodes = tuple(Node(operation, (i,), 4, 1, activation) for i, operation in enumerate(operations))
    return Cell(nodes, (len(operations),))


def _graph_of(*cells: Cell, activation: str | None = "relu", **given: Any) -> NetworkGraph:
    stages = (Block(f"stages.{i}", cell) for i, cell in enumerate(cells))
    return NetworkGraph((Block("stem", _chain("conv3x3")), *stages), activation, "default", **given)


def _shake(network: Network, seed: int = 0) -> Network:
    """Give every parameter and every statistic a value that it does not have when it is made."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.3)
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return network.eval()


@pytest.fixture
def chain() -> Callable[..., Cell]:
    """A cell of operations one after the other."""
    return _chain


@pytest.fixture
def graph_of() -> Callable[..., NetworkGraph]:
    """A stem and a stage for each cell."""
    return _graph_of


@pytest.fixture
def trained() -> Callable[..., Network]:
    """A network whose every number is as if it had been trained."""

    def make(graph: NetworkGraph, channels: int = 1, num_classes: int = 3, seed: int = 0) -> Network:
        return _shake(build(graph, (channels, 8, 8), num_classes, seed), seed)

    return make


@pytest.fixture
def source_of() -> Callable[..., str]:
    def write(
        network: Network, shape: tuple[int, int, int] = (1, 8, 8), classes: Sequence[str] = ("a", "b", "c")
    ) -> str:
        inputs = InputFacts(shape=shape, mean=[77.0] * shape[0], std=[33.0] * shape[0])
        return network_source(network, inputs, classes, "A tried network.")

    return write


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a file's text by its path."""

    def load(source: str) -> ModuleType:
        path = tmp_path / "network.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("tried_network", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # as the import system does
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def exported(
    tmp_path: Path, source_of: Callable[..., str], imported: Callable[[str], ModuleType]
) -> Callable[..., nn.Module]:
    """The network as the exported file gives it back, with its weights."""

    def export(network: Network, **given: Any) -> nn.Module:
        names = state_names(network)
        save_file({names[n]: t.clone() for n, t in network.state_dict().items()}, tmp_path / "model.safetensors")
        loaded: nn.Module = imported(source_of(network, **given)).load()
        return loaded

    return export


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """Write a user's module and import it; what it registers is gone after the test."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    for registry in (OPERATIONS, ACTIVATIONS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    def write(name: str, text: str) -> ModuleType:
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return write
