"""A run goes on with the data that it was begun on, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_hub import NAME, FakeHub, fake_hub, use_only
from made_data import write_npz
from made_pictures import made, pictures
from tiny import events, timeless, write_config

from nasflow_cli import assemble

Call = Callable[..., tuple[int, str, str]]
SHORT = {"search": {"trials": 8, "budget": {"min": 1, "max": 1, "eta": 3}, "predictor": {"enabled": False}}}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    pytest.importorskip("datasets", reason="the extra `hub` is not installed")
    with fake_hub() as running:
        use_only(running.url, tmp_path, monkeypatch)
        yield running


def write(folder: Path, data: dict[str, Any]) -> Path:
    config = yaml.safe_load(write_config(folder / "tiny.yaml", **SHORT).read_text())
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**config, "data": data}, sort_keys=False))
    return folder / "tiny.yaml"


def begun(nasflow: Call, config: Path, run: Path) -> None:
    """A run that was stopped after its first trial."""
    code, _, err = nasflow("search", config, "--run-dir", run, "--set", "search.time_limit_s=0.001")
    assert code == 75, err
    assert len([event for event in events(run) if event["event"] == "told"]) == 1


@pytest.mark.parametrize("how", ["resume", "search"])
def test_a_run_goes_on_with_the_commit_that_it_was_begun_on_when_the_name_means_another(
    nasflow: Call, hub: FakeHub, tmp_path: Path, how: str
) -> None:
    commit = hub.commit(made(pictures(60)[1]))
    config, run = write(tmp_path, {"source": "hub", "path": NAME}), tmp_path / "run"
    assert f"commit {commit}" in nasflow("check", config)[1]
    nasflow("search", config, "--run-dir", tmp_path / "whole")
    begun(nasflow, config, run)
    moved = hub.commit(made(pictures(60, seed=1)[1], labels=[0, 0, 1] * 20))

    command = ("resume", run) if how == "resume" else ("search", config, "--run-dir", run)
    code, _, err = nasflow(*command, "--set", "search.time_limit_s=null")

    assert code == 0, err
    assert f"data: {NAME} at commit {commit}" in err
    assert timeless(run) == timeless(tmp_path / "whole")
    assert (events(run)[0]["data"]["revision"], moved in err) == (commit, False)
    assert f"commit {commit}" in nasflow("status", run)[1]
    assert json.loads(nasflow("status", run, "--json")[1])["data"] == events(run)[0]["data"]
    if how == "resume":
        code, _, err = nasflow("train", run)
        assert (code, f"data: {NAME} at commit {commit}" in err) == (0, True)
        assert nasflow("export-best", run)[0] == 0
        card = json.loads((run / "export" / "model_card.json").read_text())
        assert card["split"]["hub"]["revision"] == commit


def test_a_run_is_begun_on_what_its_name_means_then(nasflow: Call, hub: FakeHub, tmp_path: Path) -> None:
    config = write(tmp_path, {"source": "hub", "path": NAME})
    for number in range(2):
        commit = hub.commit(made(pictures(60, seed=number)[1]))
        begun(nasflow, config, tmp_path / str(number))
        assert events(tmp_path / str(number))[0]["data"]["revision"] == commit


def test_a_run_goes_on_from_the_folder_that_its_data_was_fetched_into(
    nasflow: Call, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = made(pictures(60)[1])
    hub.commit(fetched)
    config, run = write(tmp_path, {"source": "hub", "path": NAME}), tmp_path / "run"
    begun(nasflow, config, run)
    fetched.save_to_disk(str(tmp_path / "fetched"))
    use_only("http://127.0.0.1:9", tmp_path / "elsewhere", monkeypatch)

    code, _, err = nasflow(
        "resume", run, "--set", f"data.path={tmp_path / 'fetched'}", "--set", "search.time_limit_s=null"
    )

    assert code == 0, err
    assert nasflow("train", run, "--epochs", 1)[0] == 0


def test_a_run_of_another_data_set_is_refused_by_what_differs(nasflow: Call, hub: FakeHub, tmp_path: Path) -> None:
    hub.commit(made(pictures(60)[1]))
    run = tmp_path / "run"
    begun(nasflow, write(tmp_path, {"source": "hub", "path": NAME}), run)

    code, _, err = nasflow("search", write_config(tmp_path / "digits.yaml", **SHORT), "--run-dir", run)

    assert (code, "data.source" in err) == (2, True), err


def test_a_run_that_was_begun_before_a_number_was_called_implausible_goes_on(
    nasflow: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = {"training": {"warmup_epochs": 7.0}}
    config, run = write_config(tmp_path / "tiny.yaml", **SHORT, **warm), tmp_path / "run"
    with monkeypatch.context() as before:
        before.setattr(assemble, "implausible", lambda _: iter(()))
        begun(nasflow, config, run)

    assert "would never be reached" in nasflow("check", config)[2]
    code, _, err = nasflow("resume", run, "--set", "search.time_limit_s=null")

    assert code == 0, err


CHANGES: dict[str, tuple[Any, str]] = {
    "fewer images": (lambda images, labels: (images[:-2], labels[:-2]), "37 training examples instead of 38"),
    "other labels": (lambda images, labels: (images, labels * 2 % 3), "other labels, names of classes"),
    "a class less": (lambda images, labels: (images, labels % 2), "classes instead of 3"),
    "another size": (lambda images, labels: (images[:, :, :6, :6], labels), "shapes of examples"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_run_does_not_go_on_with_a_folder_that_has_changed(nasflow: Call, tmp_path: Path, change: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(60) % 3
    path = write_npz(tmp_path / "data.npz", x_train=images, y_train=labels)
    config, run = write(tmp_path, {"source": "npz", "path": str(path)}), tmp_path / "run"
    begun(nasflow, config, run)
    journal = (run / "journal.jsonl").read_bytes()
    act, said = CHANGES[change]
    write_npz(path, **dict(zip(("x_train", "y_train"), act(images, labels), strict=True)))

    for command in ("resume", "train", "export-best"):
        code, _, err = nasflow(command, run)
        assert (code, "the data is not what this run was begun with" in err, said in err) == (2, True, True), err

    assert (run / "journal.jsonl").read_bytes() == journal
    write_npz(path, x_train=images, y_train=labels)
    moved = path.rename(tmp_path / "moved.npz")
    assert nasflow("resume", run, "--set", f"data.path={moved}", "--set", "search.time_limit_s=null")[0] == 0
