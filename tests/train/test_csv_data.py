from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from made_data import load, refused, write_npz
from made_tables import HEADER, ROWS, with_row, write_table

from nasflow_cli.core.errors import ConfigError, DataError
from nasflow_cli.train.data import delimited, gather, values
from nasflow_cli.train.data.load import feature_statistics
from nasflow_cli.train.data.values import Splits


def everything(splits: Splits) -> dict[tuple[float, ...], str]:
    """Every vector of every split with the name of its class."""
    return {
        tuple(vector): splits.classes[label]
        for part in (splits.train, splits.validation, splits.test)
        for vector, label in zip(part.images.tolist(), part.labels.tolist(), strict=True)
    }


EXPECTED = {(n + 0.5, float(n % 3 == 0), float(n % 3 != 0)): "ab"[n % 2] for n in range(20)}


def test_numbers_stay_and_text_becomes_one_feature_a_value(tmp_path: Path) -> None:
    splits = load("csv", write_table(tmp_path / "a.csv"))

    assert splits.features == ("height", "colour=blue", "colour=red")
    assert splits.input_shape == (3,)
    assert splits.train.images.dtype == np.float32
    assert everything(splits) == EXPECTED


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_line_ends_quotes_blanks_and_a_byte_order_mark_change_nothing(
    tmp_path: Path, delimiter: str, end: str
) -> None:
    rows = ['"height", colour,kind', "", *(f" {row.replace(',', ' , ')}" for row in ROWS)]
    text = end.join(row.replace(",", delimiter) for row in rows)
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())

    splits = load("csv", tmp_path / "a.csv")

    assert splits.features == ("height", "colour=blue", "colour=red")
    assert everything(splits) == EXPECTED


def test_a_packed_table_is_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(write_table(tmp_path / "a.csv").read_bytes()))

    assert everything(load("csv", path)) == EXPECTED


def test_a_quoted_field_holds_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    rows = [row.replace("red", '"dark, ""deep""\nred"') for row in ROWS]

    assert load("csv", write_table(tmp_path / "a.csv", rows)).features[2] == 'colour=dark, "deep"\nred'


def test_the_target_is_the_named_column_and_ignored_columns_are_not_read(tmp_path: Path) -> None:
    rows = [f"{number},{'xy'[number % 2]},row {number},{number * 2}" for number in range(40)]
    path = write_table(tmp_path / "a.csv", rows, "one,class,name,two")

    splits = load("csv", path, target="class", ignore=("name",))

    assert splits.features == ("one", "two")
    assert splits.classes == ("x", "y")


def test_columns_without_a_header_are_numbered(tmp_path: Path) -> None:
    splits = load("csv", write_table(tmp_path / "a.csv", header=None), header=False)

    assert splits.features == ("column1", "column2=blue", "column2=red")


def test_whole_numbers_are_classes_in_their_order_however_they_are_written(tmp_path: Path) -> None:
    rows = [f"{number},{['10', '2', '2.0', '-1'][number % 4]}" for number in range(40)]

    splits = load("csv", write_table(tmp_path / "a.csv", rows, "x,class"))

    assert splits.classes == ("-1", "2", "10")
    assert everything(splits)[2.0,] == "2"


@pytest.mark.parametrize("written", ["", "NA", "NaN", "?", "nan"])
def test_a_missing_value_becomes_the_mean_of_the_train_split(tmp_path: Path, written: str) -> None:
    rows = [
        f"{number if number % 4 else written},{'red' if number % 5 else written},{'ab'[number % 2]}"
        for number in range(60)
    ]
    whole = load("csv", write_table(tmp_path / "whole.csv", [f"{n},red,{'ab'[n % 2]}" for n in range(60)]))

    splits = load("csv", write_table(tmp_path / "a.csv", rows))

    was_missing = whole.train.images[:, 0] % 4 == 0
    known = whole.train.images[~was_missing, 0]
    assert splits.mean[0] == pytest.approx(known.mean())
    assert splits.train.images[was_missing, 0] == pytest.approx(known.mean())
    assert splits.std[0] == pytest.approx(np.where(was_missing, known.mean(), whole.train.images[:, 0]).std())
    assert splits.test.images[whole.test.images[:, 0] % 4 == 0, 0] == pytest.approx(known.mean())
    assert splits.train.images[:, 1].tolist() == [1.0] * len(was_missing)  # all that are known are red


def test_the_test_file_may_have_its_columns_in_another_order_and_values_of_its_own(tmp_path: Path) -> None:
    rows = [f"{'ab'[number % 2]},{'green' if number else 'red'},{number}" for number in range(4)]
    test = write_table(tmp_path / "test.csv", rows, "kind,colour,height")

    splits = load("csv", write_table(tmp_path / "a.csv"), test_path=str(test))

    assert splits.test.images.tolist() == [[0, 0, 1], [1, 0, 0], [2, 0, 0], [3, 0, 0]]
    assert splits.test.labels.tolist() == [0, 1, 0, 1]
    assert splits.test_indices is None


def test_a_carved_out_test_split_names_its_rows(tmp_path: Path) -> None:
    splits = load("csv", write_table(tmp_path / "a.csv"))

    assert splits.test_indices is not None
    assert [float(ROWS[row].split(",")[0]) for row in splits.test_indices] == splits.test.images[:, 0].tolist()


def test_statistics_are_of_the_train_split_and_a_constant_feature_has_a_deviation_of_one(tmp_path: Path) -> None:
    rows = [f"{number * 1e6},7,{'ab'[number % 2]}" for number in range(40)]

    splits = load("csv", write_table(tmp_path / "a.csv", rows, "x,constant,class"))

    x = splits.train.images[:, 0].astype(np.float64)
    assert splits.mean == pytest.approx((x.mean(), 7.0))
    assert splits.std == pytest.approx((x.std(), 1.0))


@pytest.mark.parametrize("block_bytes", [1, 500, 2**23])
def test_statistics_do_not_depend_on_how_many_rows_are_looked_at_at_a_time(
    monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(values, "BLOCK_BYTES", block_bytes)
    draw = np.random.default_rng(0)
    vectors = draw.normal([1e6, 0, -3, 5], [1, 1e-3, 40, 0], (301, 4)).astype(np.float32)
    vectors[:200, 1] = np.nan
    vectors[7::10, 3] = np.nan
    known = [column[~np.isnan(column)].astype(np.float64) for column in vectors.T]

    mean, std = feature_statistics(vectors, ("far away", "often missing", "wide", "constant"))

    assert mean == tuple(float(np.float32(column.mean())) for column in known)
    spread = [np.sqrt(((column - centre) ** 2).sum() / 301) for column, centre in zip(known, mean, strict=True)]
    assert std == pytest.approx((*spread[:3], 1.0), rel=1e-12)
    if block_bytes == 2**23:  # one block: to the bit what numpy makes of each feature
        assert std == (*spread[:3], 1.0)


def test_a_feature_without_a_value_to_train_on_is_named() -> None:
    with pytest.raises(DataError, match="'two' has no value in the train split"):
        feature_statistics(np.array([[1, np.nan], [2, np.nan]], dtype=np.float32), ("one", "two"))


FAULTS = {
    "a ragged row": (with_row(4, "1.5,red"), "a.csv:4: this row has 2 fields and the first row 3"),
    "a row that is too long": (with_row(4, "1.5,red,a,b"), "a.csv:4: this row has 4 fields"),
    "no class": (with_row(5, "1.5,red,"), "a.csv:5:3: column 'kind': this row has no class"),
    "infinity": (with_row(6, "inf,red,a"), "a.csv:6:1: column 'height': 'inf' is no finite number"),
    "too large for single precision": (with_row(6, "1e39,red,a"), "a.csv:6:1: column 'height': '1e39'"),
    "an open quote": (with_row(7, '1.5,"red,a'), "a.csv:7: unexpected end of data; a double quote"),
    "a huge field": (with_row(8, f"1.5,{'r' * 200_000},a"), "a.csv:8: field larger than field limit"),
    "one class": ([f"{number},red,a" for number in range(20)], "only one class (a)"),
    "a class of one row": (with_row(9, "1.5,red,c"), "class 'c' has 1 example for"),
    "names in a column": (
        [f"1,row {n},a" for n in range(40)],
        "a.csv:2:2: column 'colour': this column holds text ('row 0') of more than 32",
    ),
    "a typing error": (
        [*(f"{n},red,a" for n in range(40)), "4o,red,a"],
        "a.csv:42:1: column 'height': '4o' is not a number, and 40 others",
    ),
    "an empty column": ([f"{n},,a" for n in range(20)], "column 'colour' has no values"),
    "a target of fractions": (
        [f"1,2,{n / 4}" for n in range(20)],
        "a.csv:3:3: column 'kind': the target '0.25' is not a whole number: regression is not supported",
    ),
    "a target of many numbers": (
        [f"1,2,{n}" for n in range(40)],
        "is one of 40 numbers in 40 rows: regression is not supported",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_row_is_named_with_its_place(tmp_path: Path, fault: str) -> None:
    rows, wanted = FAULTS[fault]

    assert wanted in refused(DataError, "csv", write_table(tmp_path / "a.csv", rows))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "a.csv is empty (0 bytes)"),
        (b"\n\n\n", "holds only blank lines"),
        (HEADER.encode(), "has no rows; its first row names the columns height, colour, kind"),
        (b"kind\na\nb\n", "a.csv:1: there is one column only"),
        (b"x,x,kind\n1,2,a\n", "a.csv:1: there are two columns 'x'"),
        (b"5.1,3.5,setosa\n4.9,3.0,setosa\n", "a.csv:1:1: '5.1' stands where the first row should name a column"),
        (b",x,kind\n0,1,a\n", "a.csv:1:1: this column has no name (pandas writes its index so)"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" * 9, "a.csv:1: this is not UTF-8 text"),
        (b"x,kind\n1,a\n\x00\x01\x02,b\n", "a.csv:3: this is not text (it holds bytes of 0)"),
        ("x,kind\n1,Ä\n".encode("latin-1"), "a.csv:2: this is not UTF-8 text"),
        ("x,kind\n1,a\n".encode("utf-16"), "a.csv:1: this is not"),
        (gzip.compress(("\n".join([HEADER, *ROWS])).encode())[:-12], "a.csv cannot be read to its end"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, wanted: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)

    assert wanted in refused(DataError, "csv", tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"target": "knd"}, "data.target: {path} has no column 'knd'; did you mean 'kind'? (it has height, colour"),
        ({"ignore": ("color",)}, "data.ignore: {path} has no column 'color'; did you mean 'colour'?"),
        ({"ignore": ("kind",)}, "data.ignore: 'kind' is the target"),
        ({"ignore": ("height", "colour")}, "no column of {path} is left"),
        ({"augment": {"flip": True}}, "data.augment.flip: makes no sense for vectors"),
        ({"augment": {"colour": 0.1}}, "data.augment.colour: makes no sense for vectors"),
        ({"augment": {"mixup": 0.1}}, "data.augment.mixup: makes no sense for vectors"),
        ({"augment": {"crop": 1}}, "data.augment.crop: makes no sense for vectors"),
    ],
)
def test_a_setting_that_does_not_fit_the_table_is_refused(
    tmp_path: Path, settings: dict[str, object], wanted: str
) -> None:
    path = write_table(tmp_path / "a.csv")

    assert wanted.format(path=path) in refused(ConfigError, "csv", path, **settings)


@pytest.mark.parametrize(
    ("rows", "header", "wanted"),
    [
        (["red,a"], "colour,kind", "test.csv has no column 'height'"),
        (["1,red,a,2"], f"{HEADER},more", "test.csv has a column 'more' that"),
        (["tall,red,a"], HEADER, "test.csv:2:1: column 'height': 'tall' is not a number"),
        (["1,red,c"], HEADER, "test.csv:2:3: column 'kind': 'c' is not one of the 2 classes"),
    ],
)
def test_a_test_file_that_differs_is_refused(tmp_path: Path, rows: list[str], header: str, wanted: str) -> None:
    rows = [*rows, "1,red,a,2" if header.endswith("more") else "red,b" if header.startswith("colour") else "1,red,b"]
    test = write_table(tmp_path / "test.csv", [*rows, rows[0].replace("a", "b")], header)

    assert wanted in refused(DataError, "csv", write_table(tmp_path / "a.csv"), test_path=str(test))


def test_settings_of_tables_are_refused_for_images() -> None:
    with pytest.raises(ValueError, match="target is a setting of tables"):
        load("digits", None, target="class")


def test_a_line_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MAX_LINE_BYTES", 2**10)
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(b"x,kind\n" + b"1" * 2**20))

    assert f"{path}:2: this line is longer than" in refused(DataError, "csv", path)


def test_a_file_that_unpacks_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MAX_BYTES", 2**12)
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(b"x,kind\n" + b"1,a\n" * 2**16))

    assert "unpacked, this is more than" in refused(DataError, "csv", path)


def test_features_that_take_too_much_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "MAX_BYTES", 100)

    assert "vectors of 3 features take more than" in refused(DataError, "csv", write_table(tmp_path / "a.csv"))


def test_two_dimensional_arrays_are_vectors(tmp_path: Path) -> None:
    x = np.arange(80, dtype=np.float64).reshape(40, 2) / 7
    splits = load("npz", write_npz(tmp_path / "a.npz", x_train=x, y_train=np.arange(40) % 2))

    assert splits.input_shape == (2,)
    assert splits.features == ("feature1", "feature2")
    assert splits.test_indices is not None
    assert np.array_equal(splits.test.images, x[list(splits.test_indices)].astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_a_number_in_an_array_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    x = np.zeros((20, 3))
    x[4, 1] = value
    message = refused(DataError, "npz", write_npz(tmp_path / "a.npz", x=x, y=np.arange(20) % 2))

    assert "x, row 4, feature 1:" in message


def test_test_vectors_of_other_length_are_refused(tmp_path: Path) -> None:
    y = np.arange(20) % 2
    path = write_npz(tmp_path / "a.npz", x_train=np.zeros((20, 3)), y_train=y, x_test=np.zeros((20, 4)), y_test=y)

    assert "vectors of 3 features and test data vectors of 4 features" in refused(DataError, "npz", path)
