"""Files of a few kilobytes that would unpack to more than a limit; limits are lowered, and the files are real."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_data import LABELS, load, noise, refused, write_parquet

from nasflow_cli.core.errors import DataError
from nasflow_cli.train import table_file
from nasflow_cli.train.data import gather, npz, parquet
from nasflow_cli.train.table_file import read_columns

LIMIT = 2**17


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (table_file, npz, parquet, gather):
        monkeypatch.setattr(module, "MAX_BYTES", LIMIT)


def test_a_packed_array_that_unpacks_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    for dtype, said in ((np.float32, "a.npz: x takes 5243"), (np.uint8, "20 images of 256x256 pixels take more than")):
        np.savez_compressed(tmp_path / "a.npz", x=np.zeros((20, 256, 256), dtype), y=np.array(LABELS))
        assert (tmp_path / "a.npz").stat().st_size < 10_000

        assert said in refused(DataError, "npz", tmp_path / "a.npz")


def test_a_packed_text_that_unpacks_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x,y\n" + b"1,2\n" * LIMIT))
    assert (tmp_path / "a.csv.gz").stat().st_size < 30_000

    with pytest.raises(DataError, match=r"a\.csv\.gz is too large for a table"):
        read_columns(str(tmp_path / "a.csv.gz"), ["x"])


@pytest.mark.parametrize(
    "column",
    [pa.array(np.zeros(LIMIT // 8 + 1, np.int64)), pa.array(["x" * 50_000] * 100), pa.array(["x" * (LIMIT + 1)])],
    ids=["one number many times", "one text many times", "one long text"],
)
def test_a_table_that_repeats_itself_beyond_the_limit_is_refused(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 5_000

    with pytest.raises(DataError, match=r"a\.parquet.* is too large for a table: more than 131,072 bytes"):
        read_columns(str(tmp_path / "a.parquet"), ["x"])


def test_columns_that_are_too_large_only_together_are_refused(tmp_path: Path) -> None:
    column = pa.array(np.zeros(LIMIT // 12, np.int64))
    pq.write_table(pa.table({"x": column, "y": column}), tmp_path / "a.parquet")

    assert read_columns(str(tmp_path / "a.parquet"), ["x"]).num_rows == LIMIT // 12
    with pytest.raises(DataError, match="is too large for a table"):
        read_columns(str(tmp_path / "a.parquet"), ["x", "y"])


def test_a_table_within_the_limit_is_read_whole_whatever_the_size_of_its_batches(tmp_path: Path) -> None:
    values = {"x": list(range(9_000)), "y": [f"{'long' * 50}{row % 7}" for row in range(9_000)]}
    pq.write_table(pa.table({**values, "z": values["y"][::-1]}), tmp_path / "a.parquet", row_group_size=5_000)

    assert dict(read_columns(str(tmp_path / "a.parquet"), ["x"]).cells) == {"x": values["x"]}


def test_more_labels_than_memory_may_hold_are_refused(tmp_path: Path) -> None:
    image = noise("JPEG")
    count = LIMIT // 8 + 1
    write_parquet(tmp_path / "a.parquet", [image] * count, [0] * count)
    assert (tmp_path / "a.parquet").stat().st_size < 20_000

    assert "16385 labels take more than" in refused(DataError, "parquet", tmp_path / "a.parquet")


def test_an_image_that_a_file_repeats_is_not_unpacked_more_often_at_once_than_the_limit_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 10_000)
    image = noise("PNG")
    path = write_parquet(tmp_path / "a.parquet", [image] * 60, LABELS * 3)

    table = parquet._Table.open([path])

    assert {len(column) for _, column in table._batches()} <= set(range(1, 10_000 // len(image) + 1))
    assert sum(map(len, (split.labels for split in _splits(path)))) == 60


def _splits(path: Path) -> list[object]:
    splits = load("parquet", path)
    return [splits.train, splits.validation, splits.test]
