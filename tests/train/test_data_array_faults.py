from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_data import LABELS, png, refused, write_npz, write_parquet

from nasflow_cli.core.errors import DataError

GREY = np.zeros((20, 4, 5), dtype=np.uint8)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([0, 1, -1, 0] * 5, "y, row 2: label -1 is not a whole number within 0..19"),
        ([0, 1, 0, 99] * 5, "y, row 3: label 99"),
        ([0.0, np.nan] * 10, "y, row 1: label nan"),
        ([0.0, 1.0, 1.0, 0.5] * 5, "y, row 3: label 0.5"),
        ([0.0, np.inf] * 10, "y, row 1: label inf"),
        ([0, 1] * 8, "has 20 images, and y 16 labels"),
        (
            [[0, 1]] * 20,
            "labels are one number an image, not an array of shape (20, 2); of one-hot labels save np.argmax",
        ),
        ([0j, 1j] * 10, "not complex128"),
        ([0, 2] * 10, "class '1' has 0 examples"),
        ([0] * 20, "only one class"),
    ],
)
def test_a_bad_label_is_named_with_its_row_and_value(tmp_path, labels, wanted):
    message = refused(DataError, "npz", write_npz(tmp_path / "a.npz", x=GREY, y=np.array(labels)))
    assert wanted in message


def test_a_label_above_the_named_classes_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [png()] * 20, [0, 1, 2, 0] * 5)
    names = {"features": {"label": {"names": ["cat", "dog"]}}}
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), path)
    message = refused(DataError, "parquet", path)
    assert "a.parquet, row 2: label 2" in message
    assert "there are 2 classes" in message


def test_a_null_label_is_named_with_its_shard_and_row(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [png()] * 20, LABELS)
    write_parquet(tmp_path / "train-1.parquet", [png()] * 2, pa.array([1, None]))
    assert "train-1.parquet, row 1: the column 'label' is null" in refused(DataError, "parquet", tmp_path)


def test_a_test_label_that_training_lacks_is_named(tmp_path):
    write_parquet(tmp_path / "train.parquet", [png()] * 20, ["a", "b"] * 10)
    write_parquet(tmp_path / "test.parquet", [png()] * 20, ["a", "z"] * 10)
    assert "test.parquet, row 1: label 'z'" in refused(DataError, "parquet", tmp_path)


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        (np.zeros((20, 3, 4, 3), dtype=np.uint8), "both the second and the last axis"),
        (np.zeros((20, 4, 5, 6), dtype=np.uint8), "neither the second nor the last axis"),
        (np.zeros(20, dtype=np.uint8), "has the shape (20,)"),
        (np.full((20, 4, 5), -0.5), "within -0.5..-0.5"),
        (np.full((20, 4, 5), 3.7), "neither 0..1 nor 0..255"),
        (
            np.where(np.arange(20)[:, None, None] == 13, np.nan, np.zeros((20, 4, 5))),
            "x, row 13: a pixel is no finite number",
        ),
        (np.full((20, 4, 5), 300), "within 300..300"),
        (np.zeros((20, 4, 5), dtype=bool), "holds bool"),
        (np.zeros((0, 4, 5), dtype=np.uint8), "holds no images"),
    ],
)
def test_npz_images_that_are_not_clear_are_refused(tmp_path, images, wanted):
    message = refused(DataError, "npz", write_npz(tmp_path / "a.npz", x=images, y=np.array(LABELS)))
    assert wanted in message
    assert str(tmp_path / "a.npz") in message


def test_npz_train_and_test_of_different_scales_are_refused(tmp_path):
    y = np.array(LABELS)
    path = write_npz(tmp_path / "a.npz", x_train=GREY, y_train=y, x_test=GREY / 255, y_test=y)
    assert "x_train is in 0..255" in refused(DataError, "npz", path)


@pytest.mark.parametrize(("kept", "missing"), [("x_test", "y_test"), ("y_test", "x_test")])
def test_half_of_the_test_data_is_refused_and_not_left_out(tmp_path, kept, missing):
    y = np.array(LABELS)
    part = {"x_test": GREY, "y_test": y}[kept]
    message = refused(DataError, "npz", write_npz(tmp_path / "a.npz", x_train=GREY, y_train=y, **{kept: part}))
    assert f"half of its test data: {missing} is missing" in message


def test_npz_without_the_keys_lists_what_it_holds(tmp_path):
    message = refused(DataError, "npz", write_npz(tmp_path / "a.npz", pictures=GREY))
    assert "x_train and y_train, or x and y" in message
    assert "it holds pictures" in message


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickled_array_is_refused_and_does_not_run(tmp_path):
    objects = np.array([_Touch(tmp_path / "ran")] * 20, dtype=object)
    message = refused(DataError, "npz", write_npz(tmp_path / "a.npz", x=GREY, y=objects))
    assert "holds Python objects" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("shape", "wanted"), [((20, 10**6, 10**6), "more than 16 GiB"), ((20, 400, 5), "is cut short")]
)
def test_an_npz_array_that_promises_more_than_it_holds_is_refused(tmp_path, shape, wanted):
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
    path = write_npz(tmp_path / "a.npz", y=np.array(LABELS))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", member.getvalue() + bytes(400))
    assert f"a.npz: x {'takes' if 'GiB' in wanted else wanted}" in (message := refused(DataError, "npz", path))
    assert wanted in message


def test_a_damaged_npz_member_is_refused_by_name(tmp_path):
    path = write_npz(tmp_path / "a.npz", x=np.arange(400, dtype=np.uint8).reshape(20, 4, 5), y=np.array(LABELS))
    content = path.read_bytes()
    where = content.index(bytes(range(100, 140)))
    path.write_bytes(content[:where] + b"\xff" * 40 + content[where + 40 :])
    assert f"{path}: x cannot be read" in refused(DataError, "npz", path)
