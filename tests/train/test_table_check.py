"""What is wrong with an experiment over a table is said before anything runs, each with its place and the near name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_table import EXPERIMENT, HEADER, load, rows, write

from nasflow_cli import assemble
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.errors import ConfigError

MISTAKES: dict[str, tuple[str, str, str]] = {
    "an unknown column": (
        "9: late",
        "9: lat",
        "12:22: evaluator.scores.9: there is no column 'lat'; did you mean 'late'?",
    ),
    "an unknown test column": (
        "test: tested",
        "test: test",
        "14:3: evaluator.test: there is no column 'test'; did you",
    ),
    "an unknown parameter": (
        "body.1.operation: first",
        "body.1.operatoin: first",
        "8:5: evaluator.architecture.body.1.operatoin: the space has no parameter 'body.1.operatoin'; did you mean "
        "'body.1.operation'?",
    ),
    "a missing parameter": (
        "    body.2.operation: second\n",
        "",
        "5:3: evaluator.architecture: 'body.2.operation' is searched, and has no column here;",
    ),
    "one column for two": (
        "body.2.operation: second",
        "body.2.operation: first",
        "9:5: evaluator.architecture.body.2.operation: the column 'first' already stands for 'body.1.operation'",
    ),
    "a word that no parameter takes": (
        "{skip: identity}",
        "{skipp: identity}",
        "10:12: evaluator.values.skipp: no parameter in evaluator.architecture takes the value 'skipp'; did you mean "
        "'skip'?",
    ),
    "a budget without a column": (
        "rungs: [1, 9]",
        "min: 1, max: 9",
        "25:3: search.budget: the rungs are 1, 3, 9, but evaluator.scores has no column for 3; write `budget: {rungs: "
        "[1, 9]}`",
    ),
    "constraints on what nobody knows": (
        "search:",
        "  constraints: {params: {max: 9}}\nsearch:",
        "23:17: space.constraints.params: what a member costs is not known without images;",
    ),
    "repeats that would score the same": (
        "executor:",
        "  confirm: {top: 2}\nexecutor:",
        "26:13: search.confirm.top: a table gives a network the same score each time; remove `confirm`",
    ),
    "a budget that is none": (
        "{1: early",
        "{one: early",
        "12:12: evaluator.scores.one: input should be a valid integer",
    ),
    "a budget of 0": ("{1: early", "{0: early", "12:3: evaluator.scores: a budget is a whole number of at least 1"),
    "half of a shape": ("scale: 0.01", "classes: 10", "2:1: evaluator: `input_shape` and `classes` go together"),
    "an unknown key": ("scale: 0.01", "scal: 0.01", "13:3: evaluator.scal: unknown key; did you mean 'scale'?"),
    "images beside a table": (
        "space:",
        "data: {source: digits}\nspace:",
        "17:1: data: the evaluator 'table' reads no data",
    ),
    "a metric that is taken": ("params: size", "test_score: size", "2:1: evaluator: the metric 'test_score' is taken"),
    "a list for a word": ("absent: nothing", "absent: [a]", "11:3: evaluator.absent: a single value is wanted here"),
    "another evaluator with settings": (
        "kind: table",
        "kind: train",
        "3:3: evaluator.kind: the evaluator 'train' has no",
    ),
    "an evaluator that is not there": (
        "kind: table",
        "kind: tabel",
        "3:3: evaluator.kind: unknown evaluator 'tabel'; did",
    ),
    "rungs that fall": ("rungs: [1, 9]", "rungs: [9, 1]", "25:3: search.budget: the rungs rise"),
    "rungs and other ends": (
        "rungs: [1, 9]",
        "rungs: [1, 9], max: 4",
        "25:3: search.budget: the rungs are the budgets",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_its_place(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, said = MISTAKES[case]
    assert EXPERIMENT.count(old) == 1
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text=EXPERIMENT.replace(old, new))

    with pytest.raises(ConfigError) as caught:
        load(Path("e.yaml"))

    lines = str(caught.value).splitlines()
    # A misspelt parameter is missing under its right name as well.
    assert len(lines) == (2 if case == "an unknown parameter" else 1)
    assert lines[0].startswith(f"e.yaml:{said}")


def test_every_mistake_in_the_columns_is_listed_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, text=EXPERIMENT.replace("early", "erly").replace("first", "frist"))

    with pytest.raises(ConfigError) as caught:
        load(path)

    assert len(str(caught.value).splitlines()) == 2


def test_a_table_as_a_bare_name_asks_for_its_settings(tmp_path: Path) -> None:
    head, tail = EXPERIMENT.split("evaluator:")[0], EXPERIMENT[EXPERIMENT.index("space:") :]
    path = write(tmp_path, text=f"{head}evaluator: table\n{tail}")

    with pytest.raises(ConfigError, match=r"evaluator: the evaluator 'table' needs settings"):
        load(path)


def test_what_is_written_out_is_read_back_the_same(tmp_path: Path) -> None:
    config = load(write(tmp_path))

    again = load(write(tmp_path, text=config.to_yaml()))

    assert again == config
    assert again.identity() == config.identity()


@pytest.mark.parametrize(
    "option", ["evaluator.scale=1", "evaluator.scores={1: early, 9: tested}", "evaluator.values={}"]
)
def test_other_columns_make_another_experiment(option: str, tmp_path: Path) -> None:
    path = write(tmp_path)

    assert load(path, option).identity() != load(path).identity()


def check(folder: Path, table: list[str]) -> assemble.Experiment:
    """The check of the experiment over these lines."""
    config: ExperimentConfig = load(write(folder, table=table))
    return assemble.check(config)


def test_some_members_without_a_row_are_let_through_and_counted(tmp_path: Path) -> None:
    experiment = check(tmp_path, [HEADER, *rows()[:6]])

    assert experiment.with_row is not None
    assert 0 < experiment.with_row < 1


def test_a_table_with_a_row_for_none_of_them_is_refused_with_the_nearest_miss(tmp_path: Path) -> None:
    lines = [line.replace("conv3x3", "conv_3x3").replace("identity", "id") for line in rows()]

    with pytest.raises(ConfigError, match=r"none of \d+ sampled members has a row in .*; the nearest miss: ") as caught:
        check(tmp_path, [HEADER, *lines])

    assert re.search(
        r"results\.csv:\d+: (first|second) is '(conv_3x3|id)' there, not '(conv3x3|identity)'", str(caught.value)
    )
    assert "evaluator.values" in str(caught.value)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the table has no rows"):
        check(tmp_path, [HEADER])


def test_constraints_hold_where_the_shape_of_the_images_is_given(tmp_path: Path) -> None:
    path = write(tmp_path)
    sized = ("evaluator.input_shape=[3, 8, 8]", "evaluator.classes=10")

    free = assemble.check(load(path, *sized))
    bound = assemble.check(load(path, *sized, "space.constraints.params.max=2000"))

    assert free.feasible_share == 1.0
    assert 0 < bound.feasible_share < 1
    assert bound.cost_range is not None
    assert bound.cost_range[1].params <= 2000


@pytest.mark.parametrize("name", ["params", "flops", "depth", "activation_bytes", "latency_ms"])
def test_a_constraint_on_what_is_not_known_without_a_shape_is_refused_in_its_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"space\.constraints\.{name}: what a member costs is not known"):
        load(write(tmp_path), f"space.constraints.{name}.max=2")
