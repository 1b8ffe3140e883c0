"""What users and their editors are told of the names that a setting may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.registry import ACTIVATIONS, DATASETS, EXECUTORS, INITIALISERS, OPERATIONS, Registry

DOCS = Path(__file__).resolve().parents[2] / "docs"
SETTINGS = [
    ("data", "DataConfig", "source", DATASETS, None),
    ("executor", "ExecutorConfig", "kind", EXECUTORS, None),
    ("space.cells.NAME", "CellConfig", "operations", OPERATIONS, None),
    ("space.stem", "StemConfig", "operation", OPERATIONS, "weighted"),
    ("space.cells.NAME.project", "ProjectConfig", "operation", OPERATIONS, "weighted"),
    ("space.stages[]", "StageConfig", "transition", OPERATIONS, None),
    ("space.activation", "ActivationConfig", "choices", ACTIVATIONS, None),
    ("space.initialisation", "InitialisationConfig", "choices", INITIALISERS, None),
]


def shipped(registry: Registry[Any], fact: str | None) -> list[str]:
    """What is registered with that fact and is no plug-in of another test."""
    entries = [registry[name] for name in registry]
    return [
        each.name
        for each in entries
        if each.make.__module__.startswith(("nasflow_cli.", "torch.")) and (fact is None or each.facts.get(fact))
    ]


@pytest.mark.parametrize(("section", "model", "key", "registry", "fact"), SETTINGS)
def test_the_reference_and_the_schema_name_all_that_a_setting_may_be_and_leave_room_for_plug_ins(
    section: str, model: str, key: str, registry: Registry[Any], fact: str | None
) -> None:
    names = shipped(registry, fact)
    parts = (DOCS / "configuration.md").read_text().split("\n## ")
    (rows,) = [part for part in parts if part.startswith(f"`{section}`")]
    (row,) = [line for line in rows.splitlines() if line.startswith(f"| `{key}` |")]
    setting = json.dumps(ExperimentConfig.model_json_schema()["$defs"][model]["properties"][key])

    assert len(names) >= 3
    assert f"Names: {', '.join(f'`{name}`' for name in names)}, and those of plug-ins." in row
    assert all(f'"{name}"' in setting for name in names)
    assert '"examples"' in setting
    assert "enum" not in setting
