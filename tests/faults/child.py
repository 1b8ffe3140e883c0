"""One architecture and the evaluator that trains it, with a plug-in in the middle; batches are of 32, 5 an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tiny import write_config

from nasflow_cli import assemble
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.child import ChildTrainer
from nasflow_cli.train.protocol import Assignment, Report

BATCHES = 5
"""In an epoch: 180 images to train on, 32 at a time, and what is left over waits for the next epoch."""


def config_with_trouble(path: Path, **sections: Any) -> Path:
    """The tiny experiment with the operation `troubled` in every cell."""
    cell = {"nodes": 1, "operations": "troubled", "residual": [True, False]}
    stages = [{"cell": "body", "width": [4, 6]}]
    space = {"cells": {"body": cell}, "stages": stages}
    return write_config(path, plugins=["faulty_operation"], space=space, **sections)  # type: ignore[arg-type]


class Child:
    """Trains trials of one architecture, each up to a budget."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        config = assemble.load(config_with_trouble(folder / "tiny.yaml", **sections), [])
        self.run = RunDirectory(folder / "run")
        self.evaluator = ChildTrainer(config, self.run, torch.device("cpu"))
        members = (self.evaluator.space.sample_member(generator(0, n, Purpose.FEASIBLE)) for n in range(20))
        self.architecture, graph = next((a, graph) for a, graph in members if graph.fault is None)
        self.key = graph.key()

    def train(self, number: int, budget: int, *parents: int, should_stop: Callable[[], bool] = lambda: False) -> Report:
        """Train a trial that goes on from `parents`, the nearest first."""
        assignment = Assignment(
            number=number,
            architecture=self.architecture,
            key=self.key,
            budget=budget,
            seed=7,
            lineage=(number, *parents),
        )
        return self.evaluator(assignment, should_stop)

    def checkpoint(self, number: int) -> Path:
        return self.run.trial(number).checkpoint

    def weights(self, number: int) -> dict[str, torch.Tensor]:
        return load_file(self.checkpoint(number))

    def epochs(self, number: int) -> list[str]:
        """The lines of a trial's metrics."""
        return self.run.trial(number).metrics.read_text().splitlines()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal in every bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
