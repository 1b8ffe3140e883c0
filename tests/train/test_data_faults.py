from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_data import LABELS, bomb, noise, png, refused, write_cifar, write_folder, write_npz, write_parquet
from PIL import Image

from nasflow_cli.core.errors import ConfigError, DataError, MissingError
from nasflow_cli.train.data import Labelled

SOURCES = ["parquet", "folder", "cifar_binary", "npz"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_path_where_nothing_is_is_named_whole_with_the_setting(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(MissingError, source, Path("nowhere/data"))
    assert str(tmp_path / "nowhere" / "data") in message
    assert "--set data.path=" in message


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_needs_a_path_asks_for_it(source):
    assert "data.path: this source reads" in refused(ConfigError, source, None)


@pytest.mark.parametrize("source", ["parquet", "cifar_binary", "npz"])
def test_an_empty_file_is_refused(source, tmp_path):
    (tmp_path / "empty").touch()
    assert "is empty (0 bytes)" in refused(DataError, source, tmp_path / "empty")


@pytest.mark.parametrize("source", ["parquet", "cifar_binary", "npz"])
def test_a_file_of_noise_is_refused_by_name(source, tmp_path):
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 8)
    message = refused(DataError, source, tmp_path / "noise")
    assert f"{tmp_path / 'noise'} is not a whole" in message


def test_a_file_is_not_a_folder_of_classes(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    assert "a.png is a file; set data.path to a folder" in refused(DataError, "folder", tmp_path / "a.png")


def test_a_folder_is_not_an_npz_file(tmp_path):
    assert "is a folder; set data.path to an .npz file" in refused(DataError, "npz", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is neither a file nor a folder" in refused(DataError, "parquet", tmp_path / "pipe")


@pytest.mark.parametrize("source", ["digits", "cifar_binary"])
def test_a_test_path_that_would_be_ignored_is_refused(source, tmp_path):
    assert "would be ignored" in refused(ConfigError, source, None, test_path="elsewhere")


def written(source: str, root: Path) -> Path:
    """Data of each source that knows `test_path`, written once."""
    if source == "folder":
        return write_folder(root / "images")
    if source == "npz":
        return write_npz(root / "a.npz", x=np.zeros((20, 4, 5), dtype=np.uint8), y=np.array(LABELS))
    if source == "csv":
        (root / "a.csv").write_text("size,kind\n" + "".join(f"{row},{row % 2}\n" for row in range(20)))
        return root / "a.csv"
    return write_parquet(root / "train.parquet", [png()] * 20, LABELS)


@pytest.mark.parametrize("source", ["folder", "npz", "csv", "parquet"])
def test_what_is_trained_on_is_no_test_data_under_whatever_name(source, tmp_path):
    path = written(source, tmp_path)
    (tmp_path / "link").symlink_to(path)
    for test_path in (path, tmp_path / "link"):
        message = refused(ConfigError, source, path, test_path=str(test_path))
        assert "is also what is trained on" in message
        assert message.startswith("data.test_path: ")


def test_a_file_of_a_folder_that_is_trained_on_is_no_test_data(tmp_path):
    file = written("parquet", tmp_path)
    assert "is also what is trained on" in refused(ConfigError, "parquet", tmp_path, test_path=str(file))


def test_the_folder_train_is_no_test_data_of_the_folder_around_it(tmp_path):
    write_folder(tmp_path / "train")
    message = refused(ConfigError, "folder", tmp_path, test_path=str(tmp_path / "train"))
    assert "is also what is trained on" in message


def test_a_file_that_is_no_image_is_named_with_what_is_wrong_with_it(tmp_path):
    (write_folder(tmp_path / "images") / "cat" / "3.png").write_bytes(b"no image")
    message = refused(DataError, "folder", tmp_path / "images")
    assert "3.png is not a readable PNG/JPEG/BMP/WEBP image: its first bytes are those of no such image" in message
    assert "object at" not in message


def test_digits_take_no_path(tmp_path):
    assert "data.path" in refused(ConfigError, "digits", tmp_path)


def test_a_missing_test_path_is_named_by_its_own_setting(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [png()] * 20, LABELS)
    assert "data.test_path: cannot find" in refused(MissingError, "parquet", path, test_path=str(tmp_path / "b"))


def test_a_truncated_parquet_file_is_refused_by_name(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [png()] * 20, LABELS)
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is not a whole parquet file" in refused(DataError, "parquet", path)


def test_damaged_parquet_pages_are_refused_by_name(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [png()] * 20, LABELS)
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)
    assert f"{path} is not a whole parquet file" in refused(DataError, "parquet", path)


def test_a_missing_shard_is_named(tmp_path):
    for number in (0, 2):
        write_parquet(tmp_path / f"train-{number:05d}-of-00003.parquet", [png()] * 20, LABELS)
    assert "lacks train-00001-of-00003.parquet" in refused(DataError, "parquet", tmp_path)


def test_two_sets_of_training_files_in_one_folder_are_refused(tmp_path):
    for name in ("train.parquet", "train-00000-of-00001.parquet"):
        write_parquet(tmp_path / name, [png()] * 20, LABELS)
    assert "more than one set of train*.parquet" in refused(DataError, "parquet", tmp_path)


def test_a_folder_without_training_files_is_listed(tmp_path):
    (tmp_path / "readme.txt").touch()
    assert "holds no train*.parquet; it holds readme.txt" in refused(DataError, "parquet", tmp_path)


def test_parquet_without_an_image_column_lists_what_it_has(tmp_path):
    pq.write_table(pa.table({"pixels": [1, 2], "label": [0, 1]}), tmp_path / "a.parquet")
    message = refused(DataError, "parquet", tmp_path / "a.parquet")
    assert "no image columns" in message
    assert "pixels (int64), label (int64)" in message


def test_parquet_with_two_image_columns_lists_what_it_has(tmp_path):
    more = pa.array([{"bytes": b"x"}] * 20)
    path = write_parquet(tmp_path / "a.parquet", [png()] * 20, LABELS, depth=more)
    message = refused(DataError, "parquet", path)
    assert "2 image columns" in message
    assert "depth" in message


def test_parquet_without_a_label_column_lists_what_it_has(tmp_path):
    pq.write_table(pa.table({"image": pa.array([{"bytes": b"x"}]), "klass": [0]}), tmp_path / "a.parquet")
    message = refused(DataError, "parquet", tmp_path / "a.parquet")
    assert "no label column" in message
    assert "klass (int64)" in message


def test_shards_of_different_data_sets_are_refused(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [png()] * 20, LABELS)
    write_parquet(tmp_path / "train-1.parquet", [png()] * 20, ["a", "b"] * 10)
    assert "has other columns than" in refused(DataError, "parquet", tmp_path)


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [], pa.array([], pa.int64()))
    assert "has no rows" in refused(DataError, "parquet", path)


@pytest.mark.parametrize(
    "content",
    [b"not an image", noise("PNG")[:200], noise("JPEG")[:-100], b"%!PS-Adobe-3.0 EPSF-3.0\n", None, b""],
    ids=["text", "half a PNG", "most of a JPEG", "EPS", "null", "no bytes"],
)
def test_a_damaged_image_is_named_with_its_row(tmp_path, content):
    blobs = [png(16, 16)] * 20
    blobs[13] = content
    message = refused(DataError, "parquet", write_parquet(tmp_path / "a.parquet", blobs, LABELS))
    assert f"{tmp_path / 'a.parquet'}, row 13" in message


def test_an_image_whose_format_could_start_a_program_is_never_opened(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *what, **how: started.append(what))
    eps = io.BytesIO()
    Image.new("RGB", (4, 4)).save(eps, "EPS")
    message = refused(DataError, "parquet", write_parquet(tmp_path / "a.parquet", [eps.getvalue()] * 20, LABELS))
    assert "is not a readable PNG/JPEG/BMP/WEBP image" in message
    assert started == []


def test_an_image_of_another_size_is_named_with_both_sizes(tmp_path):
    blobs = [png(4, 4)] * 20
    blobs[13] = png(5, 6)
    message = refused(DataError, "parquet", write_parquet(tmp_path / "a.parquet", blobs, LABELS))
    assert "row 13" in message
    assert "5x6 pixels" in message
    assert "4x4" in message


def test_test_images_of_another_size_are_refused(tmp_path):
    write_parquet(tmp_path / "train.parquet", [png(4, 4)] * 20, LABELS)
    write_parquet(tmp_path / "test.parquet", [png(5, 6)] * 20, LABELS)
    message = refused(DataError, "parquet", tmp_path)
    assert "training images are 4x4 pixels and test images 5x6" in message


@pytest.mark.parametrize("side", [10_000, 20_000])  # above Pillow's warning, above its error
def test_an_image_bomb_is_refused(tmp_path, side):
    write_folder(tmp_path / "d")
    (tmp_path / "d" / "dog" / "3.png").write_bytes(bomb(side))
    message = refused(DataError, "folder", tmp_path / "d")
    assert f"{tmp_path / 'd' / 'dog' / '3.png'} is too large" in message


def test_a_sixteen_bit_image_is_not_cut_to_eight(tmp_path):
    write_folder(tmp_path / "d")
    (tmp_path / "d" / "cat" / "0.png").write_bytes(png(mode="I;16"))
    assert "0.png has more than 8 bits" in refused(DataError, "folder", tmp_path / "d")


def test_an_empty_class_folder_is_named(tmp_path):
    write_folder(tmp_path / "d")
    (tmp_path / "d" / "emu").mkdir()
    assert f"{tmp_path / 'd' / 'emu'} holds no image" in refused(DataError, "folder", tmp_path / "d")


def test_a_folder_without_class_folders_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    assert "holds no class folders" in refused(DataError, "folder", tmp_path)


def test_a_test_class_that_training_lacks_is_named(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test")
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "emu")
    assert "no training images of class 'emu'" in refused(DataError, "folder", tmp_path)


def test_one_class_alone_is_refused(tmp_path):
    write_folder(tmp_path / "d")
    (tmp_path / "d" / "dog").rename(tmp_path / "dog")
    assert "only one class (cat)" in refused(DataError, "folder", tmp_path / "d")


def test_a_class_with_too_few_images_is_named_with_its_count(tmp_path):
    write_folder(tmp_path / "d")
    for number in range(2, 10):
        (tmp_path / "d" / "dog" / f"{number}.png").unlink()
    assert "class 'dog' has 2 examples" in refused(DataError, "folder", tmp_path / "d")


def test_a_truncated_cifar_file_is_named(tmp_path):
    message = refused(DataError, "cifar_binary", write_cifar(tmp_path / "c", cut=5))
    assert "data_batch_3.bin is cut short" in message


def test_an_impossible_cifar_label_is_named_with_its_record(tmp_path):
    message = refused(DataError, "cifar_binary", write_cifar(tmp_path / "c", label=9))
    assert "data_batch_1.bin, record 1: label 9" in message
    assert "0..1" in message


def test_a_missing_cifar_file_is_named(tmp_path):
    (write_cifar(tmp_path / "c") / "test_batch.bin").unlink()
    assert "lacks test_batch.bin" in refused(DataError, "cifar_binary", tmp_path / "c")


def test_a_truncated_archive_is_refused_by_name(tmp_path):
    folder = write_cifar(tmp_path / "c")
    (folder / "data_batch_1.bin").write_bytes(np.random.default_rng(0).bytes(3073 * 30))
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(folder, "c")
    content = (tmp_path / "c.tar.gz").read_bytes()
    (tmp_path / "c.tar.gz").write_bytes(content[: len(content) // 2])
    assert f"{tmp_path / 'c.tar.gz'} is not a whole tar" in refused(DataError, "cifar_binary", tmp_path / "c.tar.gz")


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    folder = write_cifar(tmp_path / "c")
    (folder / "test_batch.bin").unlink()
    (folder / "test_batch.bin").symlink_to("data_batch_1.bin")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(folder, "c")
    assert "lacks test_batch.bin" in refused(DataError, "cifar_binary", tmp_path / "c.tar.gz")


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    folder = write_cifar(tmp_path / "c")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(folder, "c")
        archive.add(folder, "d")
    assert "is there twice" in refused(DataError, "cifar_binary", tmp_path / "c.tar.gz")


@pytest.mark.parametrize("key", ["crop", "cutout"])
def test_an_augmentation_that_blanks_whole_images_is_refused(key):
    assert f"data.augment.{key}: 8 pixels" in refused(ConfigError, "digits", None, augment={key: 8})


def test_other_colours_for_grey_images_are_refused():
    message = refused(ConfigError, "digits", None, augment={"colour": 0.1})
    assert message.startswith("data.augment.colour: makes no sense for grey images")


@pytest.mark.parametrize(
    ("images", "labels", "wanted"),
    [
        (np.zeros((2, 1, 4, 4)), np.zeros(2, dtype=np.int64), "not float64"),
        (np.zeros((2, 4, 4, 3), dtype=np.uint8), np.zeros(2, dtype=np.int64), "(2, 4, 4, 3)"),
        (np.zeros((2, 1, 4, 4), dtype=np.uint8), np.zeros(2), "labels are int64"),
        (np.zeros((2, 1, 4, 4), dtype=np.uint8), np.zeros(3, dtype=np.int64), "2 images have 3 labels"),
        (
            np.zeros((2, 1, 4, 4), dtype=np.uint8).transpose(0, 1, 3, 2)[:, :, ::-1],
            np.zeros(2, dtype=np.int64),
            "C-cont",
        ),
    ],
)
def test_a_reader_cannot_return_arrays_of_another_kind(images, labels, wanted):
    with pytest.raises(DataError) as caught:
        Labelled(images=images, labels=labels)
    assert wanted in str(caught.value)


def test_naming_the_readers_imports_no_slow_package():
    code = "import sys, nasflow_cli.train.data; print(sorted({'torch', 'sklearn', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
