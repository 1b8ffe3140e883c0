"""A worker finds the decoded file of a table without reading the table, and only of that very table."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.executor_config import ExecutorConfig
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data import Splits, delimited, load_splits, select
from nasflow_cli.train.data.reopen import remember, reopen, source_key
from nasflow_cli.train.data.store import open_stored
from nasflow_cli.train.streamed import Streamed
from nasflow_cli.train.worker_data import DataHolder, store_data


def write_table(folder: Path, kinds: str = "abc", num: int = 60) -> DataConfig:
    rows = [f"{'' if number % 7 == 0 else number / 7:.5},{number % 5},{kinds[number % 3]}" for number in range(num)]
    (folder / "table.csv").write_text("\n".join(["x,y,kind", *rows]) + "\n")
    return DataConfig(source="csv", path=str(folder / "table.csv"))


def experiment(data: DataConfig) -> ExperimentConfig:
    """One whose data fits into no worker."""
    return ExperimentConfig.model_construct(
        data=data, executor=ExecutorConfig(data_gib=0, workers=1, loaders=0), evaluator="train"
    )


def same(one: Splits, other: Splits) -> bool:
    facts = ("classes", "mean", "std", "test_indices", "features")
    parts = ("train", "validation", "test")
    return all(getattr(one, name) == getattr(other, name) for name in facts) and all(
        np.array_equal(getattr(getattr(one, name), kind), getattr(getattr(other, name), kind))
        for name in parts
        for kind in ("images", "labels")
    )


def stored(config: DataConfig, folder: Path) -> None:
    """What the driver does before the first trial."""
    assert store_data(experiment(config), RunDirectory(folder)) is not None


def test_a_worker_reads_no_table_that_the_driver_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_table(tmp_path)
    wanted = load_splits(config)
    stored(config, tmp_path)

    def read(*_: Any) -> Any:
        raise AssertionError("the table was read once more")

    monkeypatch.setattr(delimited, "_records", read)
    data = DataHolder(experiment(config), RunDirectory(tmp_path), torch.device("cpu"), "final").get()

    assert isinstance(data.scored, Streamed)
    assert np.array_equal(torch.cat(list(data.scored.in_turn(7))).numpy(), wanted.test.images)
    assert data.scored.labels.tolist() == wanted.test.labels.tolist()
    assert len(data.train) == len(wanted.train) + len(wanted.validation)
    found = reopen(tmp_path / "data", config)
    assert found is not None
    assert same(found[0], wanted)


def test_test_data_of_its_own_is_cut_as_before(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    config = write_table(tmp_path).model_copy(update={"test_path": write_table(tmp_path / "test", num=12).path})
    stored(config, tmp_path)

    found = reopen(tmp_path / "data", config)

    assert found is not None
    assert same(found[0], load_splits(config))


def test_a_table_that_was_changed_is_read_anew_though_its_size_and_time_are_the_same(tmp_path: Path) -> None:
    config = write_table(tmp_path)
    stored(config, tmp_path)
    before = os.stat(tmp_path / "table.csv")
    write_table(tmp_path, "bca")
    os.utime(tmp_path / "table.csv", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert os.stat(tmp_path / "table.csv").st_size == before.st_size
    assert reopen(tmp_path / "data", config) is None
    data = DataHolder(experiment(config), RunDirectory(tmp_path), torch.device("cpu"), "search").get()
    assert data.scored.labels.tolist() == load_splits(config).validation.labels.tolist()


def test_a_table_that_is_changed_while_it_is_decoded_is_not_remembered(tmp_path: Path) -> None:
    config = write_table(tmp_path)
    key, selection = source_key(config), select(config)
    _, file = open_stored(tmp_path / "data", selection)
    write_table(tmp_path, "bca")

    remember(tmp_path / "data", key, selection, file)

    assert reopen(tmp_path / "data", config) is None


@pytest.mark.parametrize("change", [{"split_seed": 1}, {"train_limit": 30}, {"ignore": ("x",)}])
def test_other_settings_are_not_taken_for_these(tmp_path: Path, change: dict[str, Any]) -> None:
    config = write_table(tmp_path)
    stored(config, tmp_path)
    assert reopen(tmp_path / "data", config.model_copy(update=change)) is None


def test_a_folder_of_files_is_read_by_every_worker(tmp_path: Path) -> None:
    assert source_key(DataConfig(source="parquet", path=str(tmp_path))) is None
    assert source_key(DataConfig(source="digits")) is None


def changed(path: Path, **to: Any) -> None:
    """Another word in the description, with its checksum left as it is."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **to}))


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "a label flipped": lambda about, labels: labels.write_bytes(b"\1" + labels.read_bytes()[1:]),
    "labels cut short": lambda about, labels: os.truncate(labels, 8),
    "no labels": lambda about, labels: labels.unlink(),
    "no description": lambda about, labels: about.unlink(),
    "no JSON": lambda about, labels: about.write_bytes(bytes(9)),
    "a list": lambda about, labels: about.write_text("[]"),
    "another class": lambda about, labels: changed(about, classes=["a", "b", "d"]),
}


def test_a_description_that_leads_out_of_the_run_is_not_followed(tmp_path: Path) -> None:
    config = write_table(tmp_path)
    stored(config, tmp_path)
    (about,) = (tmp_path / "data").glob("*.json")
    body = json.loads(about.read_text())
    del body["crc32"]
    shutil.copytree(tmp_path / "data" / body["place"], tmp_path / "elsewhere")
    body["place"] = "../elsewhere"
    about.write_text(json.dumps({**body, "crc32": zlib.crc32(json.dumps(body, sort_keys=True).encode())}))

    assert reopen(tmp_path / "data", config) is None


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    config = write_table(tmp_path)
    stored(config, tmp_path)
    (about,), (labels,) = (tmp_path / "data").glob("*.json"), (tmp_path / "data").glob("*.labels")
    DAMAGE[damage](about, labels)
    assert reopen(tmp_path / "data", config) is None

    stored(config, tmp_path)

    found = reopen(tmp_path / "data", config)
    assert found is not None
    assert same(found[0], load_splits(config))
