"""Data sets of Hugging Face's `datasets`: from folders, since there is no network where tests run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_data import LABELS, bomb, load, noise, png, refused, write_folder, write_parquet
from made_pictures import made, pictures

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import ConfigError, DataError, MissingError
from nasflow_cli.initial.detect import detect
from nasflow_cli.train.data import load_splits

datasets = pytest.importorskip("datasets", reason="the extra `hub` is not installed")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from or written to the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def save(folder: Path, **splits: Any) -> Path:
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return folder


def test_a_saved_data_set_comes_back_pixel_by_pixel_with_its_test_split(tmp_path: Path) -> None:
    pixels, blobs = pictures(30)
    splits = load("hub", save(tmp_path / "saved", train=made(blobs[:20]), test=made(blobs[20:])))

    assert splits.classes == ("cat", "dog")
    assert splits.test_indices is None
    assert np.array_equal(splits.test.images, pixels[20:])
    together = np.concatenate([splits.train.images, splits.validation.images])
    assert {image.tobytes() for image in together} == {image.tobytes() for image in pixels[:20].copy()}
    by_pixels = {image.tobytes(): number % 2 for number, image in enumerate(pixels.copy())}
    assert [by_pixels[image.tobytes()] for image in splits.train.images] == splits.train.labels.tolist()


def test_without_a_test_split_one_is_carved_out_and_a_validation_split_is_not_taken_for_it(tmp_path: Path) -> None:
    _, blobs = pictures(40)
    folder = save(tmp_path / "saved", train=made(blobs[:30]), validation=made(blobs[30:]))

    carved = load("hub", folder)
    assert carved.test_indices is not None
    assert sum(map(len, (carved.train, carved.validation, carved.test))) == 30

    named = load("hub", folder, hub={"test": "validation"})
    assert (named.test_indices, len(named.test)) == (None, 10)


def test_a_single_saved_split_is_the_training_data(tmp_path: Path) -> None:
    made(pictures(20)[1]).save_to_disk(str(tmp_path / "saved"))
    assert load("hub", tmp_path / "saved").test_indices is not None


def test_a_test_split_whose_labels_are_secret_is_refused_with_the_way_out(tmp_path: Path) -> None:
    _, blobs = pictures(30)
    secret = made(blobs[20:], labels=[-1] * 10)
    message = refused(DataError, "hub", save(tmp_path / "saved", train=made(blobs[:20]), test=secret))
    assert "split test, row 0: label -1 is not a whole number within 0..1" in message
    assert "set data.hub.test to a split that has some" in message


def test_a_folder_of_parquet_files_and_one_of_images_are_read_without_network(tmp_path: Path) -> None:
    _, blobs = pictures(20)
    (tmp_path / "parquet").mkdir()
    made(blobs).to_parquet(str(tmp_path / "parquet" / "train-00000-of-00001.parquet"))
    write_folder(tmp_path / "images" / "train")

    for name, classes in (("parquet", ("cat", "dog")), ("images", ("cat", "dog"))):
        splits = load("hub", tmp_path / name)
        assert splits.classes == classes
        assert sum(map(len, (splits.train, splits.validation, splits.test))) == 20


def test_a_folder_with_a_loading_script_is_refused_and_the_script_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    write_parquet(folder / "train.parquet", [png()] * 20, LABELS)
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")

    assert "scripts are no longer supported" in refused(DataError, "hub", folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "data.txt"])
def test_what_another_builder_would_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text('{"a": 1}\n{"a": 2}\n')
    assert "is neither in parquet or arrow nor a folder of images" in refused(DataError, "hub", tmp_path / "other")


def test_an_empty_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "cannot be read as a data set" in refused(DataError, "hub", tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    assert "is a file; set data.path to" in refused(DataError, "hub", tmp_path / "file")


@pytest.mark.parametrize("file", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_a_damaged_saved_data_set_is_refused_by_name(tmp_path: Path, file: str) -> None:
    folder = save(tmp_path / "saved", train=made(pictures(20)[1]))
    (folder / "train" / file).write_bytes(b"{ no")
    assert f"{folder} cannot be read as a data set" in refused(DataError, "hub", folder)


def test_images_are_decoded_by_our_own_rules(tmp_path: Path) -> None:
    for name, blob in (("bomb", bomb(20_000)), ("half", noise("PNG")[:200]), ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")):
        blobs: list[bytes | None] = [*pictures(20)[1]]
        blobs[13] = blob
        message = refused(DataError, "hub", save(tmp_path / name, train=made(blobs)))
        assert "split train, row 13 is " in message


def test_an_image_that_is_only_a_path_to_somewhere_is_not_fetched_from_there(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(5, 4))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([{"bytes": None, "path": str(tmp_path / "secret.png")}] * 20, kind)
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}}}
    table = pa.table({"image": image, "label": LABELS})
    (tmp_path / "paths").mkdir()
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "paths" / "train.parquet"
    )

    assert "images must be in the data set itself" in refused(DataError, "hub", tmp_path / "paths")


@pytest.mark.parametrize("place", ["/dev/zero", "pipe.png", "secret.png"])
def test_a_saved_data_set_that_claims_to_be_a_folder_of_images_has_no_path_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("datasets.arrow_writer.embed_table_storage", lambda table, **_: table)  # else they are read now
    (tmp_path / "secret.png").write_bytes(png(5, 4))
    os.mkfifo(tmp_path / "pipe.png")
    train = made(pictures(20)[1])
    rows = {"picture": [{"bytes": None, "path": str(tmp_path / place)}] * 20, "kind": train["kind"]}
    claimed = datasets.Dataset.from_dict(rows, train.features)
    claimed.info.builder_name = "imagefolder"
    assert "images must be in the data set itself" in refused(DataError, "hub", save(tmp_path / "saved", train=claimed))


def test_in_a_folder_of_images_only_files_below_it_are_read(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_folder(images / "train")
    (tmp_path / "secret.png").write_bytes(png())
    victim = min(images.rglob("*.png"))
    victim.unlink()
    victim.symlink_to(tmp_path / "secret.png")
    assert "is no image file below" in refused(DataError, "hub", images)


def test_columns_are_found_by_what_they_are_or_named(tmp_path: Path) -> None:
    _, blobs = pictures(20)
    depth = (datasets.Image(), [{"bytes": png(), "path": None}] * 20)
    coarse = (datasets.ClassLabel(names=["x", "y"]), [0, 0, 1, 1] * 5)
    folder = save(tmp_path / "saved", train=made(blobs, depth=depth, coarse=coarse))

    message = refused(DataError, "hub", folder, hub={"label": "kind"})
    assert "one column of images, and there are several; name one with data.hub.image" in message
    assert "picture (Image), kind (ClassLabel), depth (Image), coarse (ClassLabel)" in message
    assert "name one with data.hub.label" in refused(DataError, "hub", folder, hub={"image": "depth"})
    splits = load("hub", folder, hub={"image": "depth", "label": "coarse"})
    assert (splits.classes, splits.input_shape) == (("x", "y"), (3, 4, 4))
    for key in ("image", "label"):
        wrong = {"image": "depth", "label": "kind"} | {key: "nothing"}
        assert f"data.hub.{key}: 'nothing' is no column" in refused(ConfigError, "hub", folder, hub=wrong)


def test_labels_without_names_are_numbered_and_null_is_refused(tmp_path: Path) -> None:
    _, blobs = pictures(20)
    train = made(blobs, names=None).rename_column("kind", "label")
    assert load("hub", save(tmp_path / "saved", train=train)).classes == ("0", "1")
    nulls = made(blobs, labels=[*LABELS[:19], None], names=None).rename_column("kind", "label")
    message = refused(DataError, "hub", save(tmp_path / "nulls", train=nulls))
    assert "row 19: the column 'label' is null" in message


def test_vectors_are_refused_with_what_columns_there_are(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"x": [[1.0, 2.0]] * 20, "label": LABELS})
    message = refused(DataError, "hub", save(tmp_path / "saved", train=table))
    assert "one column of images, and there is none; its columns are x (List), label (Value)" in message


def test_a_split_that_is_not_there_is_named_with_the_near_one(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", train=made(pictures(20)[1]))
    message = refused(ConfigError, "hub", folder, hub={"test": "trian"})
    assert "data.hub.test: " in message
    assert "did you mean 'train'" in message
    assert "name another split" in refused(ConfigError, "hub", folder, hub={"test": "train"})


def test_settings_of_the_hub_are_refused_elsewhere_and_a_test_path_here(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hub has the settings of the source 'hub'"):
        load("digits", None, hub={"test": "x"})
    assert "would be ignored" in refused(ConfigError, "hub", Path("owner/name"), test_path="x")


@pytest.mark.parametrize("path", ["/nowhere/at/all", "owner/name/more", "../up", "~nobody/x", "a b/c"])
def test_what_is_neither_a_name_nor_there_is_not_looked_for_on_the_hub(path: str) -> None:
    assert "data.path: cannot find" in refused(MissingError, "hub", Path(path))


def test_a_name_on_the_hub_stays_a_name_wherever_a_run_is_resumed() -> None:
    data = DataConfig(source="hub", path="owner/name")
    config = ExperimentConfig.model_construct(data=data, evaluator="train")
    assert config.with_paths(lambda path: f"/absolute/{path}").data_section.path == "owner/name"
    there = ExperimentConfig.model_construct(data=data.model_copy(update={"path": "."}), evaluator="train")
    assert there.with_paths(lambda path: "/").data_section.path == "/"


PROGRAM = """
import sys
{before}
from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import MissingError
from nasflow_cli.train.data import load_splits
assert "datasets" not in sys.modules or sys.modules["datasets"] is None
try:
    load_splits(DataConfig(source="hub", path="nasflow-tests/nothing-of-that-name"))
except MissingError as error:
    print(error.exit_code, error)
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("", "the hub cannot be reached"),
        ("sys.modules['datasets'] = None", "install it: pip install 'nasflow[hub]'"),
    ],
    ids=["no network", "no package"],
)
def test_without_network_or_package_one_message_says_so(tmp_path: Path, before: str, said: str) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", PROGRAM.format(before=before)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("4 data.")
    assert said in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_saved_data_set_is_recognised_for_a_first_experiment(tmp_path: Path) -> None:
    _, blobs = pictures(20)
    assert detect(save(tmp_path / "saved", train=made(blobs))).source == "hub"
    made(blobs).save_to_disk(str(tmp_path / "single"))
    assert detect(tmp_path / "single").source == "hub"


def test_the_limits_of_the_splits_hold(tmp_path: Path) -> None:
    _, blobs = pictures(60)
    folder = save(tmp_path / "saved", train=made(blobs))
    splits = load_splits(DataConfig(source="hub", path=str(folder), train_limit=10, test_limit=4))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [8, 2, 4]
