"""From a path to the text of an experiment file: detect, look, fit, write down. Writes no file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.load import parse_yaml
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.initial.detect import Place, detect
from nasflow_cli.initial.document import Names, document, space, summary
from nasflow_cli.initial.findings import Findings, look
from nasflow_cli.initial.fit import Layout, Machine, budget_within, fit
from nasflow_cli.nets.cost import Cost, cost
from nasflow_cli.nets.operations import operation_facts

NUM_SAMPLES = 60
"""Members whose costs stand for a space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The text of an experiment file, and in a sentence what it is for."""

    text: str
    summary: str


def draft(data: Path, target: str | None, folder: Path, machine: Machine, trials: int | None) -> Draft:
    """Look at `data` and write down an experiment for it, which stands in `folder`; a search in it has `trials`.

    Raises ConfigError, DataError or MissingError for what cannot be read.
    """
    place = detect(Path(os.path.abspath(data.expanduser())))
    if target is not None and place.source != "csv":
        raise ConfigError(f"--target: {place.path} is read as {place.source}, which has no columns; leave it out")
    found = look(place, target, machine.has_gpu)
    chosen = fit(found, machine, trials, lambda layout: _costs(layout, found))
    text = document(found, chosen, machine, _names(place, folder))
    return Draft(text=text, summary=summary(found))


def digits(trials: int | None) -> Draft:
    """The experiment on scikit-learn's digits, which needs no data: `configs/digits.yaml`."""
    text = files(__package__).joinpath("digits.yaml").read_text(encoding="utf-8")
    if trials is not None:
        budget = budget_within(15, trials)
        text = re.sub(r"(?m)^  trials: \d+", f"  trials: {trials}", text)
        if budget.min != 2:
            text = re.sub(r"(?m)^  budget: .*$", f"  budget: {{min: {budget.min}, max: 15, eta: 3}}   # epochs", text)
    return Draft(text=text, summary="scikit-learn's digits, 1797 grey images of 8x8 pixels in 10 classes")


def _names(place: Place, folder: Path) -> Names:
    path = _within(folder, place.path)
    # The search will most likely be started in `folder`, and would make its runs among the classes.
    is_among_classes = path == "." and place.source == "folder" and not (place.path / "train").is_dir()
    return Names(
        name=name_of(place.path),
        path=path,
        test_path=None if place.test_path is None else _within(folder, place.test_path),
        runs=str(place.path.parent / "runs") if is_among_classes else None,
    )


def name_of(path: Path) -> str:
    """A name for runs: that of the data, as far as a run directory can have it."""
    stem = path.name if path.is_dir() else re.sub(r"\.(csv|tsv|npz|parquet|tar|tgz)(\.gz)?$", "", path.name)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:64]
    return name if re.match(r"[A-Za-z0-9]", name) else "search"


def _within(folder: Path, path: Path) -> str:
    """The path as the file in `folder` should name it: relative where it lies under it, else absolute."""
    home = Path(os.path.abspath(folder))
    if not path.is_relative_to(home):
        return str(path)
    relative = str(path.relative_to(home))
    return str(path) if relative.startswith("~") else relative  # else it would be somebody's home


def _costs(layout: Layout, found: Findings) -> Sequence[Cost]:
    """What members cost: the first of those that `nasflow check` will sample."""
    data = parse_yaml("\n".join(space(layout)), "space").data["space"]
    members = SearchSpace(SpaceConfig.model_validate_json(json.dumps(data)), operation_facts())
    graphs = [members.sample_member(generator(0, number, Purpose.FEASIBLE))[1] for number in range(NUM_SAMPLES)]
    return [cost(graph, found.shape, len(found.classes)) for graph in graphs if graph.fault is None]
