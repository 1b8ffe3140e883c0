"""What fits which data, how names are written, which reader a path is for, and what a table's columns are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasflow_cli.core.errors import ConfigError, DataError, MissingError
from nasflow_cli.core.load import parse_yaml
from nasflow_cli.initial.columns import columns_of
from nasflow_cli.initial.detect import Place, detect
from nasflow_cli.initial.document import Names, document
from nasflow_cli.initial.draft import name_of
from nasflow_cli.initial.findings import Findings, fraction
from nasflow_cli.initial.fit import Fit, Layout, Machine, budget_within, fit
from nasflow_cli.initial.words import quoted, said
from nasflow_cli.nets.cost import Cost

CPUS = Machine(workers=2, has_gpu=False)
GPU = Machine(workers=1, has_gpu=True)


def found(shape: tuple[int, ...], num_train: int, **changes: object) -> Findings:
    plain = Findings(
        place=Place(source="npz", path=Path("/data/a.npz")),
        columns=None,
        shape=shape,
        classes=("no", "yes"),
        class_sizes=(num_train, num_train),
        num_train=num_train,
        num_validation=10,
        num_test=10,
        test_fraction=0.2,
        validation_fraction=0.2,
        train_limit=None,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def by_width(layout: Layout) -> list[Cost]:
    """Costs that grow with the width alone, so that what is chosen can be worked out by hand."""
    return [Cost(params=1000 * layout.width, flops=100_000 * layout.width)] * 5


def fitted(shape: tuple[int, ...], num_train: int, machine: Machine = CPUS, trials: int | None = None) -> Fit:
    return fit(found(shape, num_train), machine, trials, by_width)


@pytest.mark.parametrize(
    ("side", "stem", "strides"),
    [
        (8, 1, (1, 2)),
        (32, 1, (1, 2, 2)),
        (64, 2, (1, 2, 2, 2)),
        (224, 2, (2, 1, 2, 2, 2)),
    ],
)
def test_stages_go_with_the_resolution(side: int, stem: int, strides: tuple[int, ...]) -> None:
    layout = fitted((3, side, side), 1000).layout

    assert (layout.stem_stride, layout.strides) == (stem, strides)


def test_more_examples_are_given_wider_networks() -> None:
    widths = [fitted((3, 32, 32), num, GPU).layout.width for num in (100, 300, 1000)]

    assert widths == [16, 24, 64]  # 20,000 parameters, then 100 an example


def test_where_even_the_narrowest_are_too_large_the_bounds_make_room() -> None:
    chosen = fit(found((3, 32, 32), 10), CPUS, None, lambda _: [Cost(params=90_000, flops=10**11)] * 5)

    assert chosen.is_raised
    assert chosen.layout.width == 8
    assert chosen.bounds.admit(Cost(params=90_000, flops=10**11))


def test_a_step_on_large_images_is_kept_within_memory() -> None:
    chosen = fitted((3, 224, 224), 50_000, GPU)

    assert chosen.batch_size == 64
    assert not chosen.bounds.admit(Cost(params=1, flops=1, activation_bytes=2**27))
    assert fitted((3, 32, 32), 50_000, GPU).bounds.activation_bytes is None


def test_how_long_it_takes_is_the_work_by_a_stated_speed_and_not_said_of_gpus() -> None:
    chosen = fitted((3, 32, 32), 4000)

    # 252 epochs in 40 trials, 62 steps each; 10 GFLOP/s and 4 ms a step, half a second a trial, two cores, 15 s before.
    work = 3 * 100_000 * chosen.layout.width * 4000 * 252
    assert chosen.trials == 40
    assert chosen.total_flops == work
    assert chosen.seconds == pytest.approx(15 + (work / 10e9 + 62 * 252 * 0.004 + 20) / 2)
    assert fitted((3, 32, 32), 4000, GPU).seconds is None


@pytest.mark.parametrize(("trials", "lowest"), [(80, 5), (13, 5), (12, 15), (4, 15), (3, 45), (1, 45)])
def test_few_trials_leave_room_for_fewer_rungs(trials: int, lowest: int) -> None:
    assert budget_within(45, trials).min == lowest


@pytest.mark.parametrize(
    ("wanted", "num", "low", "high", "count"),
    [(0.2, 1000, 10, 980, 200), (0.2, 100, 50, 60, 50), (0.25, 9, 3, 3, 3), (0.1, 150, 50, 50, 50)],
)
def test_a_fraction_leaves_each_class_one(wanted: float, num: int, low: int, high: int, count: int) -> None:
    assert round(fraction(wanted, num, low, high) * num) == count


def test_a_fraction_that_cannot_be_is_left_to_the_reader_to_refuse() -> None:
    assert fraction(0.2, 5, 3, 1) == 0.2


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_comes_back_as_it_was(name: str) -> None:
    assert parse_yaml(f"a: [{quoted(name)}, 1]  # {said(name)}", "here").data == {"a": [name, 1]}


@pytest.mark.parametrize("word", ["true", "null", "1e-3", "~", "-", "0x1F", "a: b", "# a", "C:\\data", "", "<<", "..."])
def test_words_that_mean_something_to_yaml_stay_words(word: str) -> None:
    assert parse_yaml(f"a: {quoted(word)}", "here").data == {"a": word}


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ConfigError, match="rename it"):
        quoted("caf\udce9")


def test_odd_class_names_break_no_comment() -> None:
    names = ("no\n  seed: 7", "yes\u2028# '\"")
    odd = found((3, 32, 32), 100, classes=names, class_sizes=(100, 5))

    text = document(odd, fitted((3, 32, 32), 100), CPUS, Names(name="a", path="a\tb: c", test_path=None, runs=None))

    assert parse_yaml(text, "here").data["data"]["path"] == "a\tb: c"
    assert parse_yaml(text, "here").data["seed"] == 0
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("wine.csv.gz", "wine"),
        ("my pets", "my-pets"),
        ("cifar-10-binary.tar.gz", "cifar-10-binary"),
        ("\u00e9.csv", "search"),
    ],
)
def test_a_run_is_named_after_the_data(path: str, name: str) -> None:
    assert name_of(Path(path)) == name


@pytest.mark.parametrize(
    ("files", "source", "path", "test_path"),
    [
        (["a.tsv"], "csv", "a.tsv", None),
        (["train.csv.gz", "test.csv.gz"], "csv", "train.csv.gz", "test.csv.gz"),
        (["train.npz", "notes.md"], "npz", "train.npz", None),
        (["train-00000-of-00001.parquet"], "parquet", "", None),
        (["data/train-00000-of-00001.parquet", "README.md"], "parquet", "data", None),
        (["data_batch_1.bin"], "cifar_binary", "", None),
        (["x.tar.gz"], "cifar_binary", "x.tar.gz", None),
        (["cat/1.png", "dog/1.PNG"], "folder", "", None),
        (["train/cat/1.jpg", "test/cat/1.jpg"], "folder", "", None),
    ],
)
def test_a_folder_is_read_by_what_is_in_it(
    tmp_path: Path, files: list[str], source: str, path: str, test_path: str | None
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("not looked into")

    place = detect(tmp_path)

    assert place == Place(source=source, path=tmp_path / path, test_path=tmp_path / test_path if test_path else None)


def test_of_several_files_none_is_guessed(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x")

    with pytest.raises(DataError, match=r"a\.csv, b\.csv"):
        detect(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()

    with pytest.raises(DataError, match="0 bytes"):
        detect(tmp_path / "a.csv")


def test_a_path_that_cannot_be_is_missing() -> None:
    with pytest.raises(MissingError, match="cannot find"):
        detect(Path("a\0b"))


def table(path: Path, header: str, *columns: list[object]) -> Path:
    rows = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


def test_columns_that_are_no_features_are_ignored_with_the_reason(tmp_path: Path) -> None:
    file = table(
        tmp_path / "a.csv",
        ",id,name,void,size,kind",
        *([f"r{i}" for i in range(40)], [*range(7, 47)], [f"n{i}" for i in range(40)], [""] * 40),
        *([i * i % 7 for i in range(40)], ["a", "b"] * 20),
    )

    columns = columns_of(file, None)

    assert (columns.target, columns.header) == ("kind", True)
    assert list(columns.ignore) == ["", "id", "name", "void"]
    assert columns.ignore["id"] == "counts the rows"


def test_a_table_without_rows_has_nothing_to_ignore(tmp_path: Path) -> None:
    assert not columns_of(table(tmp_path / "a.csv", "size,kind"), None).ignore


def test_a_column_called_class_is_the_target_wherever_it_stands(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "Class,size", ["a", "b"] * 6, [2, 3] * 6)

    assert columns_of(file, None).target == "Class"
    assert columns_of(file, "size").target == "size"


def test_a_first_row_with_numbers_is_no_header(tmp_path: Path) -> None:
    columns = columns_of(table(tmp_path / "a.csv", "", [5.1, 4.9, 5.1], [2, 2, 2], ["a", "b", "a"]), None)

    assert (columns.header, columns.target) == (False, "column3")
