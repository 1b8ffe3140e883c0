"""Data that does not fit: it is decoded once into a file, streamed from there, and no score shows it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import write_npz, write_parquet
from PIL import Image
from torch import Tensor

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.executor_config import ExecutorConfig
from nasflow_cli.store.files import NoRoomError
from nasflow_cli.train.data import Splits, csv, gather, images, load_splits, npz, select, store
from nasflow_cli.train.data import values as values_module
from nasflow_cli.train.data.limit import machine_memory, memory_limit
from nasflow_cli.train.data.store import DamagedDataError, Stored, open_stored
from nasflow_cli.train.feed import Images
from nasflow_cli.train.streamed import Loader, Streamed, died, num_loaders

CPU = torch.device("cpu")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the kernel kills orphans on Linux only")


def write_images(folder: Path, num: int = 60, grey: int = 0, side: int = 4) -> DataConfig:
    """A parquet file of random images, the first `grey` of them grey."""
    rng, blobs = np.random.default_rng(5), []
    for number in range(num):
        pixels = rng.integers(0, 256, (side, side + 1) if number < grey else (side, side + 1, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        blobs.append(buffer.getvalue())
    path = write_parquet(folder / "images.parquet", blobs, [number % 3 for number in range(num)])
    return DataConfig(source="parquet", path=str(path))


def write_arrays(folder: Path, num: int = 60) -> DataConfig:
    """Images in an npz file, channels last, with test images of their own."""
    images = np.random.default_rng(5).integers(0, 256, (num, 4, 5, 3), dtype=np.uint8)
    labels = np.arange(num) % 3
    path = folder / "arrays.npz"
    write_npz(path, x_train=images[:40], y_train=labels[:40], x_test=images[40:], y_test=labels[40:])
    return DataConfig(source="npz", path=str(path))


def write_vectors(folder: Path, num: int = 60) -> DataConfig:
    """A table in which values are missing."""
    rng = np.random.default_rng(5)
    rows = [f"{'' if number % 7 == 0 else rng.normal():.5},{rng.normal():.5},{number % 3}" for number in range(num)]
    (folder / "table.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")
    return DataConfig(source="csv", path=str(folder / "table.csv"))


def opened(config: DataConfig, folder: Path) -> tuple[Splits, Stored]:
    return open_stored(folder / "data", select(config))


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    return write_images(tmp_path)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few examples, so that there are many."""
    for module in (values_module, images, csv, npz):
        monkeypatch.setattr(module, "BLOCK_BYTES", 200)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["images", "grey ones first", "grey ones alone", "vectors with gaps", "arrays"])
def test_what_is_stored_is_what_memory_would_hold(tmp_path: Path, kind: str) -> None:
    grey = {"images": 0, "grey ones first": 40, "grey ones alone": 60}
    if kind in grey:
        config = write_images(tmp_path, grey=grey[kind])
    else:
        config = write_arrays(tmp_path) if kind == "arrays" else write_vectors(tmp_path)
    resident = load_splits(config)
    splits, stored = opened(config, tmp_path)
    again, _ = opened(config, tmp_path)

    every = np.concatenate([resident.train.images, resident.validation.images, resident.test.images])
    assert np.array_equal(stored.read(np.arange(60)), every)
    assert np.array_equal(stored.read(np.array([59, 3, 3, 17])), every[[59, 3, 3, 17]])
    for found in (splits, again):
        assert (found.mean, found.std, found.features) == (resident.mean, resident.std, resident.features)
        for name in ("train", "validation", "test"):
            assert np.array_equal(getattr(found, name).images, getattr(resident, name).images)
            assert np.array_equal(getattr(found, name).labels, getattr(resident, name).labels)


def test_test_data_of_its_own_is_stored_behind_the_rest_and_made_colour_like_it(tmp_path: Path) -> None:
    for folder, grey in ((tmp_path / "one", 0), (tmp_path / "two", 60)):
        folder.mkdir()
        write_images(folder, grey=grey)
    for path, test_path in (("one", "two"), ("two", "one")):
        (place := tmp_path / f"{path} first").mkdir()
        config = DataConfig(
            source="parquet",
            path=str(tmp_path / path / "images.parquet"),
            test_path=str(tmp_path / test_path / "images.parquet"),
        )
        splits, _ = opened(config, place)
        assert splits.input_shape == (3, 4, 5)
        assert np.array_equal(splits.test.images, load_splits(config).test.images)


def feeds(config: DataConfig, folder: Path, processes: int) -> tuple[Images, Streamed, Loader]:
    splits, stored = opened(config, folder)
    loader = Loader(stored, CPU, processes)
    resident = load_splits(config)
    return (
        Images.on(CPU, resident.train, resident.validation),
        Streamed(loader, 0, [splits.train, splits.validation]),
        loader,
    )


def same(one: Iterator[Any], other: Iterator[Any]) -> bool:
    """Whether two passes are equal in every bit, and lie alike in memory."""
    pairs = list(zip(one, other, strict=True))
    tensors = [pair for a, b in pairs for pair in ([(a, b)] if isinstance(a, Tensor) else zip(a, b, strict=True))]
    return len(pairs) > 2 and all(torch.equal(a, b) and a.stride() == b.stride() for a, b in tensors)


@pytest.mark.parametrize("processes", [0, 1, 2])
@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_streamed_batches_are_those_of_the_device_bit_for_bit(tmp_path: Path, kind: str, processes: int) -> None:
    config = write_images(tmp_path) if kind == "images" else write_vectors(tmp_path)
    resident, streamed, loader = feeds(config, tmp_path, processes)
    try:
        assert torch.equal(resident.labels, streamed.labels)
        for seed in range(2):  # the same processes serve every pass
            order = torch.randperm(len(resident), generator=torch.Generator().manual_seed(seed))
            assert same(resident.batches(order, 7), streamed.batches(order, 7))
            assert same(resident.in_turn(10), streamed.in_turn(10))
    finally:
        loader.close()


def test_a_pass_that_was_broken_off_leaves_nothing_to_the_next(config: DataConfig, tmp_path: Path) -> None:
    resident, streamed, loader = feeds(config, tmp_path, 1)
    try:
        for _ in streamed.in_turn(4):
            break
        assert same(resident.in_turn(10), streamed.in_turn(10))
    finally:
        loader.close()


@pytest.mark.parametrize("processes", [0, 1])
def test_streaming_draws_nothing_from_the_generator_that_dropout_uses(
    config: DataConfig, tmp_path: Path, processes: int
) -> None:
    _, streamed, loader = feeds(config, tmp_path, processes)
    before = torch.get_rng_state()
    list(streamed.in_turn(10))
    loader.close()

    assert torch.equal(torch.get_rng_state(), before)


def flip_a_bit(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


DAMAGE = {
    "cut short": ("examples.bin", lambda path: os.truncate(path, path.stat().st_size - 1)),
    "too long": ("examples.bin", lambda path: path.write_bytes(path.read_bytes() + b"x")),
    "gone": ("examples.bin", lambda path: path.unlink()),
    "sums flipped": ("sums.bin", lambda path: flip_a_bit(path, 5)),
    "sums cut short": ("sums.bin", lambda path: os.truncate(path, 8)),
    "sums gone": ("sums.bin", lambda path: path.unlink()),
    "a mean changed": ("about.json", lambda path: path.write_text(path.read_text().replace('"mean": [', '"mean": [9'))),
    "no JSON": ("about.json", lambda path: path.write_bytes(bytes(40))),
    "a list": ("about.json", lambda path: path.write_text("[]")),
    "half written": ("about.json", lambda path: path.unlink()),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_file_that_is_not_whole_is_made_again(config: DataConfig, tmp_path: Path, damage: str) -> None:
    wanted, stored = opened(config, tmp_path)
    name, act = DAMAGE[damage]
    act(stored.path.with_name(name))
    (stored.path.parent / ".nasflow-0123.tmp").touch()  # of a write that was killed

    splits, again = opened(config, tmp_path)

    assert splits.mean == wanted.mean
    assert np.array_equal(again.read(np.arange(60)), np.concatenate([p.images for p in parts(load_splits(config))]))
    assert sorted(path.name for path in stored.path.parent.iterdir()) == [
        "about.json",
        "examples.bin",
        "lock",
        "sums.bin",
    ]


def parts(splits: Splits) -> list[Any]:
    return [splits.train, splits.validation, splits.test]


@pytest.mark.parametrize("processes", [0, 1])
def test_a_flipped_bit_is_found_when_its_example_is_read_and_the_file_is_then_made_again(
    config: DataConfig, tmp_path: Path, processes: int
) -> None:
    _, streamed, loader = feeds(config, tmp_path, processes)
    flip_a_bit(loader.stored.path, 3 * loader.stored.row_bytes + 7)

    with pytest.raises(DamagedDataError, match="example 3 is not what was written"):
        list(streamed.in_turn(10))
    loader.stored.discard()

    resident, streamed, loader = feeds(config, tmp_path, 0)
    assert same(resident.in_turn(10), streamed.in_turn(10))


def test_a_file_that_is_cut_short_while_it_is_read_is_damage_and_no_crash(config: DataConfig, tmp_path: Path) -> None:
    _, stored = opened(config, tmp_path)
    stored.read(np.array([0]))
    os.truncate(stored.path, 100)

    with pytest.raises(DamagedDataError, match="is cut short"):
        stored.read(np.array([50]))


def test_what_another_worker_has_made_again_is_not_thrown_away(config: DataConfig, tmp_path: Path) -> None:
    _, one = opened(config, tmp_path)
    _, two = opened(config, tmp_path)
    one.read(np.array([0]))  # the other one's loader processes read, and it has not
    kept = one._file  # so that the new file cannot have the same number
    one.discard()
    _, new = opened(config, tmp_path)

    two.discard()

    assert new.path.with_name("about.json").exists()
    kept.close()


def test_a_disk_that_fills_up_while_the_array_is_widened_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = store._File(tmp_path)
    room.make((2, 3), np.dtype("uint8"))

    def full(descriptor: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_reserve", full)
    with pytest.raises(NoRoomError):
        room.make((4, 3), np.dtype("uint8"))
    room.drop()

    assert list(tmp_path.iterdir()) == []


def test_of_two_workers_at_once_one_decodes_and_the_other_waits(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, decode, both = [], store.decode, threading.Barrier(2)
    selection = select(config)
    monkeypatch.setattr(store, "decode", lambda *args: decoded.append(args) or decode(*args))

    def work() -> None:
        both.wait()
        open_stored(tmp_path / "data", selection)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert len(decoded) == 1


def test_other_labels_or_settings_or_images_have_a_file_of_their_own(config: DataConfig, tmp_path: Path) -> None:
    places = {opened(config, tmp_path)[1].path}
    places.add(opened(config.model_copy(update={"split_seed": 1}), tmp_path)[1].path)
    places.add(opened(config.model_copy(update={"train_limit": 30}), tmp_path)[1].path)
    assert len(places) == 3

    Path(config.path or "").rename(tmp_path / "moved.parquet")
    moved = config.model_copy(update={"path": str(tmp_path / "moved.parquet")})
    assert opened(moved, tmp_path)[1].path in places
    write_images(tmp_path, side=5)
    assert opened(config, tmp_path)[1].path not in places


def test_images_that_were_replaced_in_place_are_read_anew_and_a_copy_with_its_times_is_known(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for split, grey in (("train", 10), ("test", 200)):
        for name in ("a", "b"):
            (source / split / name).mkdir(parents=True)
            for number in range(10):
                Image.new("L", (4, 4), grey).save(source / split / name / f"{number}.png")
    config = DataConfig(source="folder", path=str(source))
    _, before = opened(config, tmp_path)
    shutil.copytree(source, tmp_path / "copy")
    _, copied = opened(config.model_copy(update={"path": str(tmp_path / "copy")}), tmp_path)
    for file in (source / "test").rglob("*.png"):
        Image.new("L", (4, 4), 90).save(file)

    splits, after = opened(config, tmp_path)

    assert copied.path == before.path != after.path
    assert (splits.test.images == 90).all()


def test_a_disk_that_is_too_small_is_said_before_anything_is_decoded_to_it(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = store.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage._replace(free=100))

    with pytest.raises(NoRoomError, match=r"the data takes 0\.0 GiB, and the disk of .* has 0\.0 GiB free: make room"):
        opened(config, tmp_path)

    assert list((tmp_path / "data").rglob("*.*")) == []


def test_an_image_that_does_not_decode_leaves_nothing_behind(tmp_path: Path) -> None:
    config = write_images(tmp_path)
    path = write_parquet(tmp_path / "bad.parquet", [b"no image"] * 60, [number % 3 for number in range(60)])
    bad = config.model_copy(update={"path": str(path)})
    selection = select(bad)

    with pytest.raises(DataError, match=r"bad\.parquet, row \d+ is not a readable"):
        open_stored(tmp_path / "data", selection)

    assert not list((tmp_path).rglob("*.bin"))
    assert not list((tmp_path).rglob("*.tmp"))


def test_a_stored_file_holds_more_than_memory_may(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "MAX_BYTES", 3000)  # the images take 3600

    with pytest.raises(DataError, match="have them streamed"):
        load_splits(config)
    assert opened(config, tmp_path)[0].input_shape == (3, 4, 5)


def test_the_limit_is_the_setting_or_a_quarter_of_the_memory_over_the_workers(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/batch/job\n")
    (tmp_path / "mountinfo").write_text(f"36 31 0:33 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "batch" / "job").mkdir(parents=True)
    (tmp_path / "batch" / "memory.max").write_text(f"{2**30}\n")

    def limit(**settings: object) -> int:
        return memory_limit(ExecutorConfig.model_validate(settings), tmp_path)

    assert machine_memory(tmp_path) == 2**30 < machine_memory(tmp_path / "nothing")
    assert limit(workers=4) == 2**26
    assert limit(workers=4, memory_gib=0.125) == 2**25
    assert limit(workers=4, data_gib=0.5) == 2**29
    assert limit(data_gib=0) == 0
    assert limit(data_gib=100) == 16 * 2**30


def test_the_cpu_has_no_loader_processes_unless_they_are_asked_for() -> None:
    cuda = torch.device("cuda")
    assert [num_loaders(None, CPU, cores) for cores in (1, 2, 64)] == [0, 0, 0]
    assert [num_loaders(None, cuda, cores) for cores in (1, 2, 3, 4, 64)] == [0, 1, 1, 2, 2]
    assert num_loaders(3, CPU, 1) == 3


def test_where_shared_memory_is_too_small_the_worker_reads_itself(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resident, streamed, loader = feeds(config, tmp_path, 1)
    usage = store.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage._replace(free=1000))

    assert same(resident.in_turn(10), streamed.in_turn(10))

    assert loader.processes == 0
    assert "too small for loader processes" in capsys.readouterr().err


@linux_only
def test_a_loader_process_that_is_killed_is_known_as_such(config: DataConfig, tmp_path: Path) -> None:
    _, streamed, loader = feeds(config, tmp_path, 1)
    passing = iter(streamed.in_turn(1))
    next(passing)
    (process,) = loader._loader._iterator._workers  # type: ignore[union-attr]

    def kill_and_read() -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        list(streamed.in_turn(1))

    with pytest.raises(RuntimeError) as caught:
        kill_and_read()

    assert died(caught.value)
    loader.close()


@linux_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_does_not_end_loader_processes(
    config: DataConfig, tmp_path: Path, number: signal.Signals
) -> None:
    resident, streamed, loader = feeds(config, tmp_path, 1)
    list(streamed.in_turn(10))
    (process,) = loader._loader._iterator._workers  # type: ignore[union-attr]

    os.kill(process.pid, number)

    assert same(resident.in_turn(10), streamed.in_turn(10))
    assert process.is_alive()
    loader.close()
    assert not process.is_alive()


def test_the_description_of_a_stored_file_is_plain_json(config: DataConfig, tmp_path: Path) -> None:
    _, stored = opened(config, tmp_path)
    about = json.loads(stored.path.with_name("about.json").read_text())
    assert (about["shape"], about["dtype"], about["format"]) == ([60, 3, 4, 5], "|u1", 1)
