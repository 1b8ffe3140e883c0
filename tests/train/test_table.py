"""Looking scores up in a table: words and numbers, absent parameters, missing rows, damaged files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_table import EXPERIMENT, HEADER, load, rows, write

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.errors import DataError, MissingError, NasflowError
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train import table_file
from nasflow_cli.train.protocol import Assignment, Report
from nasflow_cli.train.table import NotInTableError, Table, canonical, table

ONE = Architecture(structure={"body.nodes": 1, "stages.0.width": 16}, operators={"body.1.operation": "skip"})
"""The fourth row."""

TWO = Architecture(
    structure={"body.nodes": 2, "stages.0.width": 8},
    operators={"body.1.operation": "skip", "body.2.operation": "conv3x3"},
)
"""The seventh row."""


def look_up(path: Path, architecture: Architecture, budget: int, *options: str) -> Report:
    """What the evaluator says of an architecture."""
    config = load(path, *options)
    assignment = Assignment(number=0, architecture=architecture, key="k", budget=budget, seed=0, lineage=(0,))
    return table(config, RunDirectory(path.parent), torch.device("cpu"))(assignment, lambda: False)


def spoilt(*changes: tuple[int, str]) -> list[str]:
    """The table with some of its lines (counted from 1) replaced."""
    lines = [HEADER, *rows()]
    for number, line in changes:
        lines[number - 1] = line
    return lines


def refusal(folder: Path, *changes: tuple[int, str]) -> str:
    """What is said of a table with these lines, without the folder's name."""
    config = load(write(folder, table=spoilt(*changes)))
    assert config.table is not None
    with pytest.raises(DataError) as caught:
        Table.read(config.table)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_score_is_that_of_the_row_at_the_budget(tmp_path: Path) -> None:
    path = write(tmp_path)

    scores = [look_up(path, member, budget).score for member in (ONE, TWO) for budget in (1, 9)]

    assert scores == pytest.approx([0.13, 0.53, 0.16, 0.56])


def test_test_score_cost_and_metrics_stand_beside_the_score(tmp_path: Path) -> None:
    report = look_up(write(tmp_path), TWO, 9)

    assert report.metrics == pytest.approx({"test_score": 0.55, "cost_s": 900.0, "params": 1600.0})
    assert report.epochs == 9


def test_a_budget_without_a_cost_costs_its_share_of_the_next_larger(tmp_path: Path) -> None:
    assert look_up(write(tmp_path), TWO, 1).metrics["cost_s"] == pytest.approx(100.0)


def test_a_budget_with_a_cost_of_its_own_costs_that(tmp_path: Path) -> None:
    assert look_up(write(tmp_path), TWO, 1, "evaluator.cost={1: size, 9: time_s}").metrics["cost_s"] == 1600.0


def test_our_own_count_of_parameters_fills_in_where_the_table_has_none(tmp_path: Path) -> None:
    sized = ("evaluator.input_shape=[3, 8, 8]", "evaluator.classes=10")

    metrics = look_up(write(tmp_path), TWO, 1, *sized).metrics

    assert metrics["params"] == 1600.0
    assert metrics["flops"] > 0


def test_a_parameter_that_was_given_one_value_still_finds_its_rows(tmp_path: Path) -> None:
    member = Architecture(structure={"body.nodes": 1}, operators=ONE.operators)

    assert look_up(write(tmp_path), member, 9, "space.stages.0.width=16").score == pytest.approx(0.53)


def test_nothing_stands_for_an_absent_parameter_unless_a_word_is_given(tmp_path: Path) -> None:
    path = write(tmp_path, text=EXPERIMENT.replace("  absent: nothing\n", ""))
    results = tmp_path / "results.csv"
    results.write_text(results.read_text().replace("nothing", ""))

    assert look_up(path, ONE, 1).score == pytest.approx(0.13)


def test_numbers_are_compared_as_numbers_and_words_as_they_stand() -> None:
    assert canonical("8") == canonical(8) == canonical("8.0") == canonical("+8e0") == 8
    assert canonical("0.1") == canonical(0.1)
    assert canonical(True) == "true" != canonical(1)
    assert canonical("conv3x3") != canonical("Conv3x3")
    assert canonical("nan") == "nan"
    assert canonical(float("nan")) is None


def test_an_architecture_without_a_row_has_no_score_and_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, table=[line for line in spoilt() if not line.startswith("3,")])

    with pytest.raises(NotInTableError, match=r"no row with nodes=1, width=16, first=identity, second=nothing"):
        look_up(path, ONE, 1)


def test_a_row_without_a_score_fails_at_that_budget_alone(tmp_path: Path) -> None:
    path = write(tmp_path, table=spoilt((5, "3,1,16,identity,nothing,13,,52,900,1300")))

    assert look_up(path, ONE, 1).score == pytest.approx(0.13)
    with pytest.raises(NotInTableError, match=r"results\.csv:5:7: column 'late': there is no score for budget 9"):
        look_up(path, ONE, 9)


def test_two_rows_for_one_architecture_are_refused_with_both_lines(tmp_path: Path) -> None:
    said = refusal(tmp_path, (6, rows()[3].replace("3,1,16", "9,1,16.0")))

    assert said.startswith("results.csv:6: this architecture has a row already, results.csv:5;")


def test_a_score_that_is_no_number_is_refused_with_its_place(tmp_path: Path) -> None:
    said = refusal(tmp_path, (4, "2,1,16,conv3x3,nothing,good,52,51,900,1200"))

    assert said == "results.csv:4:6: column 'early': 'good' is not a number"


def test_a_row_of_another_length_is_refused_with_its_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, (3, "1,1,8,identity")) == "results.csv:3: 4 values, but the header names 10 columns"


def test_a_packed_table_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, text=EXPERIMENT.replace("results.csv", "results.csv.gz"))
    (tmp_path / "results.csv.gz").write_bytes(gzip.compress((tmp_path / "results.csv").read_bytes()))

    assert look_up(path, TWO, 9).score == pytest.approx(0.56)


def test_a_parquet_table_is_read_with_its_types(tmp_path: Path) -> None:
    path = write(tmp_path, text=EXPERIMENT.replace("results.csv", "results.parquet"))
    as_parquet(tmp_path, second=lambda word: None if word == "nothing" else word)

    report = look_up(path, ONE, 9, "evaluator.absent=null")

    assert report.score == pytest.approx(0.53)
    with pytest.raises(NotInTableError):
        look_up(path, ONE, 9)


def as_parquet(folder: Path, **columns: Callable[[str], object]) -> None:
    """Write the table as parquet: numbers as numbers, and the given columns as what a function makes of them."""
    lines = [line.split(",") for line in rows()]
    made = {
        name: [columns.get(name, lambda cell: int(cell) if cell.isdecimal() else cell)(line[i]) for line in lines]
        for i, name in enumerate(HEADER.split(","))
    }
    pq.write_table(pa.table(made), folder / "results.parquet")


def test_a_parquet_column_of_lists_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, text=EXPERIMENT.replace("results.csv", "results.parquet"))
    as_parquet(tmp_path, early=lambda cell: [int(cell)])

    with pytest.raises(DataError, match=r"row 0, column 'early': \[10\] is not a single number or word"):
        look_up(path, ONE, 1)


DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "half a gzip file": ("results.csv.gz", gzip.compress(HEADER.encode() * 50)[:-12], "not a whole gzip file"),
    "no gzip file": ("results.csv.gz", HEADER.encode(), "not a whole gzip file"),
    "no parquet file": ("results.parquet", b"PAR1 and nothing more", "not a whole parquet file"),
    "not UTF-8": ("results.csv", b"\xff\xfe\x00", "is not UTF-8 text"),
    "empty": ("results.csv", b"", "is empty"),
    "a blank line": ("results.csv", b"\n1,2\n", "there is no header"),
    "another kind": ("results.xlsx", b"PK", "a .csv, .csv.gz or .parquet file"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_table_is_refused_by_name(tmp_path: Path, case: str) -> None:
    name, content, said = DAMAGED[case]
    path = write(tmp_path, text=EXPERIMENT.replace("results.csv", name))
    (tmp_path / name).write_bytes(content)

    with pytest.raises(NasflowError, match=said) as caught:
        load(path)

    assert name in str(caught.value)


def test_a_table_that_is_not_there_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, text=EXPERIMENT.replace("results.csv", "elsewhere.csv"))

    with pytest.raises(MissingError, match=r"evaluator\.path: cannot find .*elsewhere\.csv"):
        load(path)


def test_a_table_larger_than_any_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(write(tmp_path))
    monkeypatch.setattr(table_file, "MAX_BYTES", 200)

    with pytest.raises(DataError, match="too large for a table"):
        Table.read(config.table)


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "MAX_LINE", 1000)
    path = write(tmp_path, table=["x" * 2000])

    with pytest.raises(DataError, match="too large for a table"):
        load(path)


def test_a_relative_path_starts_at_the_working_directory_and_then_at_the_experiments_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    path = write(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    beside = load(path)
    (tmp_path / "results.csv").write_text((tmp_path / "there" / "results.csv").read_text())

    here = load(path)

    assert beside.table is not None
    assert here.table is not None
    assert Path(beside.table.path) == tmp_path / "there" / "results.csv"
    assert here.table.path == "results.csv"
    assert beside.identity() == here.identity()
