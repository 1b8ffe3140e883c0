"""`nasflow init`: what it writes passes check and can be searched; what it cannot read or write it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_wine

from nasflow_cli.core.load import read_yaml

Call = Callable[..., tuple[int, str, str]]

ROOT = Path(__file__).resolve().parents[2]
CIFAR = ROOT.parent / "shared" / "data" / "cifar10"

QUICK = ("--set", "search.budget.min=1", "--set", "search.budget.max=1", "--set", "executor.kind=inline")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def digits_file(path: Path, num: int = 600) -> Path:
    images, labels = load_digits(return_X_y=True)
    np.savez(path, x=np.rint(images[:num] * 15).astype(np.uint8).reshape(-1, 8, 8), y=labels[:num])
    return path


def wine_file(path: Path) -> Path:
    table = load_wine(as_frame=True).frame
    table["target"] = table["target"].map({0: "barolo", 1: "grignolino #2", 2: "barbera"})
    table.insert(0, "row", range(1, len(table) + 1))
    table.insert(1, 'soil: "kind"', ["chalk", "clay"] * (len(table) // 2))
    table.loc[3:9, "ash"] = None
    table.rename(columns={"target": "gr\u00e4pe: 'sort'"}).to_csv(path, index=False)
    return path


def photos(root: Path, sizes: dict[str, int], side: int = 32) -> Path:
    rng = np.random.default_rng(0)
    for name, count in sizes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


def checked(nasflow: Call, config: str | Path = "experiment.yaml") -> dict[str, object]:
    code, out, err = nasflow("check", config, "--json")
    assert code == 0, err
    plan: dict[str, object] = json.loads(out)
    return plan


def refused(nasflow: Call, *arguments: str | Path, code: int = 2) -> str:
    ended, out, err = nasflow("init", *arguments)
    assert (ended, out) == (code, "")
    assert "Traceback" not in err
    return err


def test_without_data_it_writes_the_digits_of_configs(nasflow: Call) -> None:
    code, out, err = nasflow("init")

    assert (code, out) == (0, "experiment.yaml\n")
    assert "next: nasflow check experiment.yaml" in err
    assert Path("experiment.yaml").read_bytes() == (ROOT / "configs" / "digits.yaml").read_bytes()


def test_the_digits_can_be_searched_at_once_with_few_trials(nasflow: Call) -> None:
    nasflow("init", "--trials", "3")

    code, _, err = nasflow("search", "experiment.yaml", *QUICK, "--set", "data.train_limit=100")

    assert code == 0, err
    assert len(Path("runs/latest/leaderboard.csv").read_text().splitlines()) == 4


def test_grey_images_are_shifted_and_not_mirrored(nasflow: Call) -> None:
    digits_file(Path("digits.npz"))

    code, _, err = nasflow("init", "--data", "digits.npz")

    assert code == 0, err
    assert "grey images of 8x8 pixels in 10 classes" in err
    data = read_yaml(Path("experiment.yaml")).data["data"]
    assert (data["source"], data["path"], data["augment"]) == ("npz", "digits.npz", {"crop": 1})
    assert "flip: true" in Path("experiment.yaml").read_text()
    assert checked(nasflow)["data"]["classes"] == 10  # type: ignore[index]


def test_colour_images_in_folders_with_odd_names_are_found_from_elsewhere(nasflow: Call, tmp_path: Path) -> None:
    photos(tmp_path / "far" / 'p\u00e9ts: "all" #1', {"cat: big": 30, "dog": 4})

    code, _, err = nasflow("init", "--data", 'far/p\u00e9ts: "all" #1', "--out", "far/pets.yaml")

    assert code == 0, err
    data = read_yaml(tmp_path / "far" / "pets.yaml").data["data"]
    assert (data["source"], data["path"]) == ("folder", 'p\u00e9ts: "all" #1')
    assert data["augment"]["flip"] is True
    text = (tmp_path / "far" / "pets.yaml").read_text()
    assert "classes are uneven" in text
    assert "right in 88%" in text
    assert checked(nasflow, "far/pets.yaml")["data"]["shape"] == [3, 32, 32]  # type: ignore[index]


def test_data_elsewhere_is_named_with_its_whole_path(nasflow: Call, tmp_path: Path) -> None:
    data = digits_file(tmp_path / "digits.npz")
    (tmp_path / "work").mkdir()

    nasflow("init", "--data", "digits.npz", "--out", "work/a.yaml")

    assert read_yaml(Path("work/a.yaml")).data["data"]["path"] == str(data)


def test_runs_are_kept_out_of_a_folder_of_classes(
    nasflow: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos(tmp_path / "pets", {"cat": 10, "dog": 10}, side=4))

    nasflow("init", "--data", ".")

    assert read_yaml(Path("experiment.yaml")).data["runs"] == str(tmp_path / "runs")
    assert checked(nasflow)["data"]["classes"] == 2  # type: ignore[index]


def test_a_table_with_text_and_gaps_can_be_searched_as_it_was_written(nasflow: Call) -> None:
    wine_file(Path("wine.csv"))
    code, _, err = nasflow("init", "--data", "wine.csv", "--trials", "3")
    assert code == 0, err
    data = read_yaml(Path("experiment.yaml")).data["data"]
    assert (data["target"], data["ignore"]) == ("gr\u00e4pe: 'sort'", ["row"])
    assert "7 values are missing" in Path("experiment.yaml").read_text()

    code, out, err = nasflow("search", "experiment.yaml", *QUICK)

    assert code == 0, err
    assert len((Path(out.strip()) / "leaderboard.csv").read_text().splitlines()) == 4


def test_a_target_that_is_named_is_taken(nasflow: Call) -> None:
    wine_file(Path("wine.csv"))

    code, _, err = nasflow("init", "--data", "wine.csv", "--target", 'soil: "kind"')

    assert code == 0, err
    assert read_yaml(Path("experiment.yaml")).data["data"]["target"] == 'soil: "kind"'
    assert checked(nasflow)["data"]["classes"] == 2  # type: ignore[index]


@pytest.mark.skipif(not CIFAR.is_dir(), reason="CIFAR-10 is not in ../shared/data/cifar10")
def test_cifar_without_a_gpu_begins_with_some_of_its_images(nasflow: Call) -> None:
    code, _, err = nasflow("init", "--data", CIFAR)

    assert code == 0, err
    document = read_yaml(Path("experiment.yaml")).data
    assert document["data"]["source"] == "parquet"
    assert document["data"]["train_limit"] == 5000
    assert len(document["space"]["stages"]) == 3
    assert "About " in Path("experiment.yaml").read_text()
    assert checked(nasflow, "experiment.yaml")["data"]["validation"] == 1000  # type: ignore[index]


def test_to_stdout_goes_the_file_and_nothing_else(nasflow: Call) -> None:
    code, out, err = nasflow("init", "--out", "-")

    assert code == 0
    assert out == (ROOT / "configs" / "digits.yaml").read_text()
    assert "digits" in err
    assert not list(Path().iterdir())


def test_a_file_that_is_there_is_left_as_it_is(nasflow: Call) -> None:
    Path("experiment.yaml").write_text("mine")

    assert "--force" in refused(nasflow)

    assert Path("experiment.yaml").read_text() == "mine"


def test_force_writes_over_a_file(nasflow: Call) -> None:
    Path("experiment.yaml").write_text("mine")

    assert nasflow("init", "--force")[0] == 0

    assert Path("experiment.yaml").read_text() != "mine"


def test_a_path_with_nothing_there_is_missing(nasflow: Call) -> None:
    assert "cannot find" in refused(nasflow, "--data", "nowhere.csv", code=4)


@pytest.mark.parametrize("name", ["empty", "notes.txt"])
def test_what_no_reader_reads_is_answered_with_what_can_be_read(nasflow: Call, name: str) -> None:
    Path("empty").mkdir()
    Path("notes.txt").write_text("hello")

    err = refused(nasflow, "--data", name)

    assert all(word in err for word in (name, ".csv", ".npz", ".parquet", "CIFAR-10", "sub-folder")), err
    assert not Path("experiment.yaml").exists()


def test_a_target_that_is_not_there_is_refused_with_the_nearest(nasflow: Call) -> None:
    wine_file(Path("wine.csv"))

    assert "did you mean 'alcohol'" in refused(nasflow, "--data", "wine.csv", "--target", "alcool")


def test_a_measured_last_column_is_refused_with_the_option_that_names_another(nasflow: Call) -> None:
    Path("a.csv").write_text("kind,length\n" + "".join(f"{'ab'[i % 2]},{i / 7}\n" for i in range(40)))

    err = refused(nasflow, "--data", "a.csv")

    assert "regression" in err
    assert "'length'; name another with --target" in err


def test_a_target_without_a_table_is_refused(nasflow: Call) -> None:
    digits_file(Path("digits.npz"))

    assert "--target" in refused(nasflow, "--target", "class")
    assert "--target" in refused(nasflow, "--data", "digits.npz", "--target", "class")


@pytest.mark.parametrize(("out", "why"), [("gone/a.yaml", "no folder"), (".", "folder"), ("file/a.yaml", "no folder")])
def test_a_place_that_cannot_be_written_to_is_refused_before_the_data_is_read(
    nasflow: Call, out: str, why: str
) -> None:
    Path("file").write_text("mine")

    assert why in refused(nasflow, "--data", "nowhere.csv", "--out", out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(nasflow: Call) -> None:
    Path("closed").mkdir(mode=0o500)

    assert "Permission denied" in refused(nasflow, "--out", "closed/a.yaml")
