"""A run of one architecture, trained for two epochs and promoted to six, as a search records it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.trial import Proposal, Result, Trial
from nasflow_cli.export import REGISTERED
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.store.files import write_whole
from nasflow_cli.store.journal import Journal, JournalHeader
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.child import ChildTrainer
from nasflow_cli.train.protocol import Assignment

EXPERIMENT: Mapping[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits"},
    "space": {
        "stem": {"width": 6},
        "cells": {"cell": {"nodes": 2, "operations": ["conv3x3", "max_pool3x3", "skip"], "residual": True}},
        "stages": [{"cell": "cell", "depth": 2, "width": [6, 8], "stride": 2}],
        "dropout": 0.1,
    },
    "search": {"trials": 2, "budget": {"min": 2, "max": 6}},
    "training": {"batch_size": 32, "learning_rate": 0.1},
}


def make_run(root: Path) -> RunDirectory:
    """Train one architecture for two epochs, promote it to six, and record that as a search does."""
    assert REGISTERED  # the names that EXPERIMENT uses
    run = RunDirectory(root)
    config = ExperimentConfig.model_validate_json(json.dumps(EXPERIMENT))
    root.mkdir()
    write_whole(run.resolved_config, config.to_yaml())
    write_whole(run.environment, json.dumps({"devices": ["cpu"]}))
    architecture = SearchSpace(config.space, operation_facts()).sample(np.random.default_rng(2))
    child = ChildTrainer(config, run, torch.device("cpu"))
    with Journal.resume(run.journal)[0] as journal:
        journal.append(JournalHeader(nasflow_version="0", config_sha256="0", started=1.0).to_json())
        for number in (0, 1):
            trial = Trial(
                number=number,
                architecture=architecture,
                key="a key",
                budget=6 if number else 2,
                seed=11,
                phase="structure",
                turn=0,
                bracket=0,
                rung=number,
                slot=(0, 0, 0),
                parent=0 if number else None,
                proposal=Proposal(source="promotion" if number else "random"),
            )
            report = child(
                Assignment(
                    number=number,
                    architecture=architecture,
                    key=trial.key,
                    budget=trial.budget,
                    seed=trial.seed,
                    lineage=(1, 0) if number else (0,),
                ),
                lambda: False,
            )
            journal.append({"event": "asked", **trial.to_json()})
            journal.append({"event": "told", **Result(trial=number, score=report.score).to_json()})
    return run
