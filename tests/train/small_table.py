"""An experiment over a small table: two nodes or one, two widths, two operations; one row an architecture."""

from __future__ import annotations

import itertools
from pathlib import Path

import nasflow_cli.execute
import nasflow_cli.nets
import nasflow_cli.train.child
import nasflow_cli.train.data
import nasflow_cli.train.table  # noqa: F401
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.experiment_file import load_experiment
from nasflow_cli.train.table_check import table_mistakes

EXPERIMENT = """\
name: small
evaluator:
  kind: table
  path: results.csv
  architecture:
    body.nodes: nodes
    stages.0.width: width
    body.1.operation: first
    body.2.operation: second
  values: {skip: identity}
  absent: nothing
  scores: {1: early, 9: late}
  scale: 0.01
  test: tested
  cost: time_s
  metrics: {params: size}
space:
  stem: {width: 8}
  cells:
    body: {nodes: [1, 2], edges: chain, operations: [conv3x3, skip]}
  stages:
    - {cell: body, width: [8, 16]}
search:
  trials: 8
  budget: {rungs: [1, 9], eta: 3}
executor: {kind: inline}
"""

HEADER = "id,nodes,width,first,second,early,late,tested,time_s,size"


def rows() -> list[str]:
    """A line an architecture: early scores 10, 11, ..., late ones 40 more, test scores one less than the late ones."""
    operations = ("conv3x3", "identity")
    lines = []
    for nodes, width, first in itertools.product((1, 2), (8, 16), operations):
        for second in operations if nodes == 2 else ("nothing",):
            number = 10 + len(lines)
            lines.append(
                f"{len(lines)},{nodes},{width},{first},{second},{number},{number + 40},{number + 39},900,{number}00"
            )
    return lines


def write(folder: Path, *, text: str = EXPERIMENT, table: list[str] | None = None) -> Path:
    """Write the table and the experiment; returns the latter's path."""
    lines = [HEADER, *rows()] if table is None else table
    (folder / "results.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "e.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(path: Path, *options: str) -> ExperimentConfig:
    """Load an experiment as the command line does."""
    return load_experiment(path, options, lambda modules: None, table_mistakes)
