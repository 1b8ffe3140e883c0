from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.train.data import Splits, images, load_splits, outline, select

CIFAR10 = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10"


def load(source: str, path: Path, **settings: object) -> Splits:
    return load_splits(DataConfig.model_validate({"source": source, "path": str(path), **settings}))


def coloured(num: int, side: int = 4) -> np.ndarray:
    """Images (n, 3, side, side + 1) of random colours."""
    return np.random.default_rng(num).integers(0, 256, (num, 3, side, side + 1), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", mode: str = "RGB") -> bytes:
    image = Image.fromarray(pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def table(blobs: list[bytes], labels: object, names: list[str] | None = None, label: str = "label") -> pa.Table:
    image = pa.array(
        [{"bytes": blob, "path": None} for blob in blobs], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    made = pa.table({"image": image, label: labels})
    if names is None:
        return made
    features = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
    return made.replace_schema_metadata({"huggingface": json.dumps(features)})


def gathered(splits: Splits) -> set[tuple[int, bytes]]:
    """Every image of every split with its label."""
    parts = (splits.train, splits.validation, splits.test)
    return {
        (int(label), image.tobytes()) for part in parts for image, label in zip(part.images, part.labels, strict=True)
    }


def expected(pixels: np.ndarray, labels: object) -> set[tuple[int, bytes]]:
    return {(int(label), np.ascontiguousarray(image).tobytes()) for image, label in zip(pixels, labels, strict=True)}


ALTERNATING = [number % 2 for number in range(20)]


def test_a_parquet_file_comes_back_pixel_by_pixel(tmp_path):
    pixels = coloured(20)
    pq.write_table(table([encoded(image) for image in pixels], ALTERNATING, ["cat", "dog"]), tmp_path / "a.parquet")
    splits = load("parquet", tmp_path / "a.parquet")
    assert splits.classes == ("cat", "dog")
    assert splits.input_shape == (3, 4, 5)
    assert gathered(splits) == expected(pixels, ALTERNATING)


def test_parquet_shards_are_one_table_in_order_and_the_test_file_is_the_test_split(tmp_path):
    pixels = coloured(30)
    blobs, labels = [encoded(image) for image in pixels], [number % 2 for number in range(30)]
    for number, rows in enumerate([slice(0, 7), slice(7, 20)]):
        part = table(blobs[rows], labels[rows])
        pq.write_table(part, tmp_path / f"train-{number:05d}-of-00002.parquet", row_group_size=3)
    pq.write_table(table(blobs[20:], labels[20:]), tmp_path / "test-00000-of-00001.parquet")
    splits = load("parquet", tmp_path)
    assert splits.test_indices is None
    assert np.array_equal(splits.test.images, pixels[20:])
    assert gathered(splits) == expected(pixels, labels)
    assert splits.classes == ("0", "1")


def test_a_parquet_file_of_several_batches_keeps_images_with_their_labels(tmp_path):
    labels = [number % 2 for number in range(2100)]
    blobs = {label: encoded(np.full((3, 2, 2), 100 * label, dtype=np.uint8)) for label in (0, 1)}
    # Not alternating, so that a batch read at the wrong offset shows.
    labels[1024:] = [1 - label if number % 3 else label for number, label in enumerate(labels[1024:])]
    pq.write_table(table([blobs[label] for label in labels], labels), tmp_path / "a.parquet")
    splits = load("parquet", tmp_path / "a.parquet")
    assert gathered(splits) == {(0, bytes(12)), (1, bytes([100] * 12))}


def test_a_test_path_brings_the_test_split_of_a_parquet_file(tmp_path):
    pixels = coloured(30)
    blobs, labels = [encoded(image) for image in pixels], [number % 2 for number in range(30)]
    pq.write_table(table(blobs[:20], labels[:20]), tmp_path / "a.parquet")
    pq.write_table(table(blobs[20:], labels[20:]), tmp_path / "b.parquet")
    splits = load("parquet", tmp_path / "a.parquet", test_path=str(tmp_path / "b.parquet"))
    assert np.array_equal(splits.test.images, pixels[20:])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_string_labels_are_sorted_into_classes(tmp_path, kind):
    words = pa.array(["zebra" if number % 2 else "ant" for number in range(20)]).cast(kind)
    pixels = coloured(20)
    pq.write_table(table([encoded(image) for image in pixels], words, label="fine_label"), tmp_path / "a.parquet")
    splits = load("parquet", tmp_path / "a.parquet")
    assert splits.classes == ("ant", "zebra")
    assert gathered(splits) == expected(pixels, ALTERNATING)


@pytest.mark.parametrize(
    ("modes", "channels"), [(["L"], 1), (["L", "RGB"], 3), (["RGBA"], 3), (["P"], 3), (["1"], 1), (["LA"], 3)]
)
def test_grey_stays_grey_only_when_all_images_are(tmp_path, modes, channels):
    pixels = coloured(20)
    blobs = [encoded(image, mode=modes[number // 2 % len(modes)]) for number, image in enumerate(pixels)]
    pq.write_table(table(blobs, ALTERNATING), tmp_path / "a.parquet")
    splits = load("parquet", tmp_path / "a.parquet")
    assert splits.input_shape == (channels, 4, 5)
    wanted = [np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")).transpose(2, 0, 1)[:channels] for blob in blobs]
    assert gathered(splits) == expected(np.array(wanted), ALTERNATING)


def test_only_images_that_a_split_takes_are_decoded(tmp_path, monkeypatch):
    pq.write_table(table([encoded(image) for image in coloured(60)], [0, 1] * 30), tmp_path / "a.parquet")
    decoded, decode = [], images._decode
    monkeypatch.setattr(images, "_decode", lambda data, place: decoded.append(place) or decode(data, place))
    splits = load("parquet", tmp_path / "a.parquet", train_limit=10, test_limit=4)
    assert len(decoded) == len(set(decoded)) == 14
    assert splits.test_indices == tuple(
        sorted(int(place.split()[-1]) for place in decoded if int(place.split()[-1]) in splits.test_indices)
    )


def test_cifar_10_is_read_balanced():
    if not (CIFAR10 / "train.parquet").exists():
        pytest.skip(f"the CIFAR-10 images are not at {CIFAR10}")
    splits = load("parquet", CIFAR10, train_limit=200, test_limit=100)
    assert splits.input_shape == (3, 32, 32)
    assert splits.classes[0] == "airplane"
    assert np.bincount(splits.train.labels).tolist() == [16] * 10
    assert np.bincount(splits.validation.labels).tolist() == [4] * 10
    assert np.bincount(splits.test.labels).tolist() == [10] * 10
    assert all(100 < mean < 140 for mean in splits.mean)  # of the whole: 125, 123, 114
    assert splits.test_indices is None


def fill(root: Path, pixels: np.ndarray, suffix: str = ".png") -> None:
    for number, image in enumerate(pixels):
        entry = root / ("dog" if number % 2 else "cat")
        entry.mkdir(parents=True, exist_ok=True)
        (entry / f"{number:03d}{suffix}").write_bytes(encoded(image, Image.registered_extensions()[suffix.lower()]))


@pytest.mark.parametrize("suffix", [".png", ".BMP"])
def test_a_folder_of_class_folders_comes_back_pixel_by_pixel(tmp_path, suffix):
    pixels = coloured(20)
    fill(tmp_path, pixels, suffix)
    splits = load("folder", tmp_path)
    assert splits.classes == ("cat", "dog")
    assert gathered(splits) == expected(pixels, ALTERNATING)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_images_in_folders_are_read(tmp_path, suffix):
    fill(tmp_path, coloured(20), suffix)
    assert load("folder", tmp_path).input_shape == (3, 4, 5)


def noted(root: Path) -> tuple[str, ...]:
    return outline(select(DataConfig(source="folder", path=str(root)))).notes


def test_hidden_files_are_skipped_and_other_files_are_skipped_and_counted(tmp_path):
    pixels = coloured(20)
    fill(tmp_path, pixels)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / ".000.png").write_bytes(b"hidden")
    assert noted(tmp_path) == ()
    for name in ("a.tiff", "b.TIFF", "c"):
        (tmp_path / "cat" / name).write_bytes(b"other")
    (tmp_path / "dog" / "more").mkdir()
    (tmp_path / "astray.png").write_bytes(b"other")
    (tmp_path / "README.md").write_text("about")  # of no class, and no image
    (note,) = noted(tmp_path)
    assert note.startswith(f"{tmp_path}: not read are 2 .tiff, 1 .png, 1 without a suffix, 1 folders; images are files")
    assert gathered(load("folder", tmp_path)) == expected(pixels, ALTERNATING)


def test_a_folder_of_validation_images_that_is_not_read_is_told(tmp_path):
    for split in ("train", "test", "val"):
        fill(tmp_path / split, coloured(20))
    (note,) = noted(tmp_path)
    assert note == f"{tmp_path} also holds val, of which nothing is read: validation images are taken from train"


def test_train_and_test_folders_are_the_splits(tmp_path):
    pixels = coloured(30)
    fill(tmp_path / "train", pixels[:20])
    fill(tmp_path / "test", pixels[20:])
    splits = load("folder", tmp_path)
    assert splits.test_indices is None
    assert expected(pixels[20:], ALTERNATING[:10]) == expected(splits.test.images, splits.test.labels)


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, coloured(20))
    (tmp_path / "dog").rename(tmp_path / "train")
    assert load("folder", tmp_path).classes == ("cat", "train")


def cifar_files(pixels: np.ndarray, labels: list[int], fine: bool = False) -> dict[str, bytes]:
    """Six images a file for training and twelve for test, as CIFAR-10 has it, or CIFAR-100."""
    records = [bytes([7] * fine + [label]) + image.tobytes() for label, image in zip(labels, pixels, strict=True)]
    if fine:
        return {
            "train.bin": b"".join(records[:30]),
            "test.bin": b"".join(records[30:]),
            "fine_label_names.txt": b"ape\nbee\n",
            "coarse_label_names.txt": b"x\n" * 8,
        }
    files = {f"data_batch_{batch + 1}.bin": b"".join(records[6 * batch : 6 * batch + 6]) for batch in range(5)}
    return {**files, "test_batch.bin": b"".join(records[30:]), "batches.meta.txt": b"ape\nbee\n\n", "readme.html": b"x"}


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("how", ["packed", "extracted", "extracted into"])
def test_the_official_cifar_layouts_come_back_pixel_by_pixel(tmp_path, fine, how):
    pixels = np.random.default_rng(0).integers(0, 256, (42, 3, 32, 32), dtype=np.uint8)
    labels = [number % 2 for number in range(42)]
    files = cifar_files(pixels, labels, fine)
    if how == "packed":
        path = packed(tmp_path / "c.tar.gz", {f"cifar/{name}": content for name, content in files.items()})
    else:
        inside = "cifar-100-binary" if fine else "cifar-10-batches-bin"
        path, folder = tmp_path, tmp_path if how == "extracted" else tmp_path / inside
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    splits = load("cifar_binary", path)
    assert splits.classes == ("ape", "bee")
    assert np.array_equal(splits.test.images, pixels[30:])
    assert gathered(splits) == expected(pixels, labels)


def test_an_archive_writes_nothing_and_its_paths_are_not_followed(tmp_path):
    pixels = np.zeros((42, 3, 32, 32), dtype=np.uint8)
    files = cifar_files(pixels, [number % 2 for number in range(42)])
    (tmp_path / "in").mkdir()
    path = packed(
        tmp_path / "in" / "c.tar.gz", {**{f"../{name}": content for name, content in files.items()}, "../../evil": b"x"}
    )
    load("cifar_binary", path)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["c.tar.gz", "in"]


@pytest.mark.parametrize("keys", [("x_train", "y_train"), ("x", "y"), ("images", "labels")])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NHW", "NHW1", "fractions", "floats", "int64"])
def test_npz_arrays_come_back_pixel_by_pixel(tmp_path, keys, layout):
    pixels = coloured(20)
    pixels[0, :, 0, 0] = (0, 128, 255)
    stored = {
        "NCHW": pixels,
        "NHWC": pixels.transpose(0, 2, 3, 1),
        "NHW": pixels[:, 0],
        "NHW1": pixels[:, 0, :, :, None],
        "fractions": pixels / 255,
        "floats": pixels.astype(np.float32),
        "int64": pixels.astype(np.int64),
    }[layout]
    np.savez_compressed(tmp_path / "a.npz", **{keys[0]: stored, keys[1]: np.array(ALTERNATING)[:, None]})
    splits = load("npz", tmp_path / "a.npz")
    wanted = pixels[:, :1] if layout.startswith("NHW") and layout != "NHWC" else pixels
    assert gathered(splits) == expected(wanted, ALTERNATING)


def test_npz_test_arrays_are_the_test_split(tmp_path):
    pixels = coloured(30)
    labels = np.array([number % 2 for number in range(30)], dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pixels[:20], y_train=labels[:20], x_test=pixels[20:], y_test=labels[20:])
    splits = load("npz", tmp_path / "a.npz")
    assert splits.test_indices is None
    assert np.array_equal(splits.test.images, pixels[20:])


def test_npz_string_labels_are_sorted_into_classes(tmp_path):
    np.savez(tmp_path / "a.npz", x=coloured(20), y=np.array(["zebra" if label else "ant" for label in ALTERNATING]))
    assert load("npz", tmp_path / "a.npz").classes == ("ant", "zebra")


def test_the_same_files_give_the_same_splits_twice(tmp_path):
    fill(tmp_path, coloured(20))
    one, two = load("folder", tmp_path), load("folder", tmp_path)
    assert one.train.images.tobytes() == two.train.images.tobytes()
    assert one.test_indices == two.test_indices
