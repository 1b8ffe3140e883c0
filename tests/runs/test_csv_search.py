"""A search on a table, from a CSV file to an exported network that reads raw features."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_wine
from tiny import TINY, run

from nasflow_cli import assemble, export
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.store.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[2]

SPACE: dict[str, Any] = {
    "stem": {"operation": "linear", "width": [12, 16]},
    "cells": {"body": {"nodes": [1, 2], "operations": ["linear", "skip"], "residual": [True, False]}},
    "stages": [{"cell": "body", "depth": [1, 2], "width": [12, 16], "transition": "linear"}],
    "activation": {"choices": ["relu", "gelu"]},
    "initialisation": {"choices": ["default", "kaiming_normal"]},
    "dropout": 0.1,
}


def write_wine(path: Path) -> Path:
    """The wines, with a column of text and a missing value in some rows."""
    wine = load_wine()
    strength = np.where(wine.data[:, 0] > 13, "strong", "light")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*wine.feature_names[1:], "strength", "maker"])
        for number, (row, label) in enumerate(zip(wine.data.tolist(), wine.target.tolist(), strict=True)):
            values = [*row[1:], strength[number], label + 1]
            if number % 10 == 0:
                values[number // 10 % 13] = "NA"
            writer.writerow(values)
    return path


def write_experiment(folder: Path, **space: Any) -> Path:
    config = {**TINY, "data": {"source": "csv", "path": str(write_wine(folder / "wine.csv"))}, "space": SPACE | space}
    config["search"] = {**TINY["search"], "trials": 8}
    config["training"] = {"batch_size": 16}
    path = folder / "wine.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, export.Verified]:
    """The folder of a finished search, and its export."""
    folder = tmp_path_factory.mktemp("wine")
    run(write_experiment(folder), folder / "run")
    return folder, export.export_best(RunDirectory(folder / "run"), None, lambda _: None)


def test_the_exported_network_has_the_scored_accuracy_in_a_fresh_process(
    searched: tuple[Path, export.Verified],
) -> None:
    _, verified = searched

    assert verified.validation_accuracy == verified.score
    assert verified.score > 0.8  # guessing the largest class gives 0.4


def test_a_script_that_reads_the_table_itself_finds_the_same_test_accuracy(
    searched: tuple[Path, export.Verified],
) -> None:
    folder, verified = searched
    script = ROOT / "scripts" / "evaluate_export.py"

    said = subprocess.run(
        [sys.executable, "-I", str(script), str(folder / "run" / "export"), str(folder / "wine.csv")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert f"test accuracy {verified.test_accuracy:.4f}" in said


def test_the_exported_file_classifies_a_csv_of_numbers_and_names_its_features(
    searched: tuple[Path, export.Verified],
) -> None:
    folder, _ = searched
    card = json.loads((folder / "run" / "export" / "model_card.json").read_text(encoding="utf-8"))
    wine = load_wine()
    rows = [[*values[1:], float(values[0] <= 13), float(values[0] > 13)] for values in wine.data.tolist()]
    lines = [card["input"]["features"], *rows]
    (folder / "numbers.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")

    said = subprocess.run(
        [sys.executable, "-I", str(folder / "run" / "export" / "network.py"), str(folder / "numbers.csv")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    assert card["input"]["features"][-2:] == ["strength=light", "strength=strong"]
    right = [f": {label + 1} (" in line for line, label in zip(said, wine.target.tolist(), strict=True)]
    assert np.mean(right) > 0.8


def test_a_missing_number_counts_as_the_mean_in_the_exported_file(
    searched: tuple[Path, export.Verified], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = searched
    monkeypatch.syspath_prepend(str(folder / "run" / "export"))
    import network  # noqa: PLC0415

    loaded = network.load()
    assert torch.equal(loaded(torch.full((1, 14), torch.nan)), loaded(loaded.mean))


@pytest.mark.parametrize(
    ("space", "wanted"),
    [
        (
            {"stem": {"operation": "conv3x3", "width": 8}},
            "space.stem.operation: .conv3x3. cannot be applied to",
        ),
        (
            {"stages": [{"cell": "body", "width": [8, 16], "transition": "linear", "stride": 2}]},
            "space.stages.0.stride: vectors have no resolution",
        ),
    ],
)
def test_a_space_of_images_is_refused_for_a_table(tmp_path: Path, space: dict[str, Any], wanted: str) -> None:
    config = assemble.load(write_experiment(tmp_path, **space), [])

    with pytest.raises(ConfigError, match=wanted):
        assemble.check(config)
