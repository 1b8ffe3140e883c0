"""A search that is over in seconds, and ways to run it in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from nasflow_cli import assemble
from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.search import Ending, Stop
from nasflow_cli.store.run_directory import RunDirectory

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits", "train_limit": 240, "validation_fraction": 0.25},
    "space": {
        "stem": {"width": 4},
        "cells": {
            "body": {
                "nodes": [1, 2],
                "operations": ["conv3x3", "conv1x1", "avg_pool3x3", "skip"],
                "residual": [True, False],
            }
        },
        "stages": [
            {"cell": "body", "width": [4, 6, 8]},
            {"cell": "body", "depth": [1, 2], "width": [8, 12], "stride": 2},
        ],
        "activation": {"choices": ["relu", "gelu", "silu"]},
        "initialisation": {"choices": ["default", "kaiming_normal"]},
    },
    "search": {
        "trials": 16,
        "budget": {"min": 1, "max": 3, "eta": 3},
        "pool": 8,
        "predictor": {"min_results": 5, "steps": 5, "ensemble": 2, "width": 8, "layers": 2, "min_pairs": 3},
    },
    "training": {"batch_size": 32},
    "executor": {"kind": "inline"},
}


def write_config(path: Path, **sections: dict[str, Any]) -> Path:
    """Write the tiny experiment; each keyword adds to or replaces keys of a section."""
    config = json.loads(json.dumps(TINY))
    for name, values in sections.items():
        if isinstance(values, dict):
            config.setdefault(name, {}).update(values)
        else:
            config[name] = values
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


class CrashError(Exception):
    """Stands for a process that dies at this moment."""


class Watcher:
    """Counts results, and crashes after as many as it is told."""

    def __init__(self, crash_after: int | None = None) -> None:
        self.crash_after = crash_after
        self.num_told = 0

    def asked(self, trial: Trial) -> None: ...

    def told(self, trial: Trial, result: Result, history: History) -> None:
        self.num_told += 1
        if self.num_told == self.crash_after:
            raise CrashError

    def stopping(self, why: str, running: int) -> None: ...


def run(config: Path, directory: Path, crash_after: int | None = None, stop: Stop | None = None) -> Ending:
    """Search, or go on with the search, in this process."""
    experiment = assemble.check(assemble.load(config, []))
    run_directory = assemble.new_run(experiment, config, directory)
    with assemble.open_search(experiment, run_directory, Watcher(crash_after), stop or Stop()) as live:
        return live.work()


def events(directory: Path) -> list[dict[str, Any]]:
    """The journal's lines."""
    return [json.loads(line) for line in RunDirectory(directory).journal.read_text().splitlines()]


def timeless(directory: Path) -> list[dict[str, Any]]:
    """The journal's lines without the readings of clocks."""
    clocks = {"seconds", "started", "finished"}
    return [{name: value for name, value in event.items() if name not in clocks} for event in events(directory)]
