"""What a worker process runs: the named evaluator, behind the plain values that an executor carries.

Imports all that an experiment may name, for a worker of any kind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import nasflow_cli.nets
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.registry import EVALUATORS, load_plugins
from nasflow_cli.execute.devices import NEIGHBOURS_VARIABLE
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train import child, table
from nasflow_cli.train.device import worker_device
from nasflow_cli.train.protocol import Assignment, Evaluator
from nasflow_cli.train.worker_data import shared_by

__all__ = ["child", "make_handler", "nasflow_cli", "opened", "table"]


def opened(setup: Mapping[str, Any]) -> tuple[ExperimentConfig, RunDirectory, torch.device]:
    """What a worker works with, plug-ins loaded. `setup` has `config` (as JSON values) and `run` (a path).

    `executor.workers` is how many share this machine.
    """
    device = worker_device()  # first, since a plug-in may make tensors
    load_plugins(setup["config"]["plugins"])
    config = ExperimentConfig.model_validate_json(json.dumps(setup["config"]))
    config = shared_by(config, int(os.environ.get(NEIGHBOURS_VARIABLE, "1")))
    return config, RunDirectory(Path(setup["run"])), device


def make_handler(setup: Mapping[str, Any]) -> Callable[[dict[str, Any], Callable[[], bool]], dict[str, Any]]:
    """Return the function that turns a task into a reply; `setup` is what `opened` reads."""
    config, run, device = opened(setup)
    evaluator: Evaluator = EVALUATORS[config.evaluator_name].make(config, run, device)

    def handle(payload: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        return evaluator(Assignment.from_json(payload), should_stop).to_json()

    return handle
