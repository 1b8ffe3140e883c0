"""`nasflow status` while something runs: what it says is asked by a process of its own, from inside the training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import shell
from tiny import events, write_config

from nasflow_cli.store.lock import LockHolder
from nasflow_cli.store.progress import final_progress
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.trainer import Trainer

Call = Callable[..., tuple[int, str, str]]
Said = list[tuple[dict[str, Any], dict[str, str]]]


@pytest.fixture
def asked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], Said]:
    """Ask for the status of tmp_path/run as the so-manieth epoch of all begins: the document, and the text by line."""

    def ask_at(when: int) -> Said:
        said: Said = []
        epoch, count = Trainer.epoch, 0

        def asking(self: Trainer, *rest: Any) -> float:
            nonlocal count
            count += 1
            if count == when:
                document = json.loads(shell("status", tmp_path / "run", "--json", cwd=tmp_path).out)
                lines = shell("status", tmp_path / "run", cwd=tmp_path).out.splitlines()
                said.append((document, {line[:10].strip(): line[10:] for line in lines}))
            return epoch(self, *rest)

        monkeypatch.setattr(Trainer, "epoch", asking)
        return said

    return ask_at


def test_while_a_final_training_runs_its_seeds_and_epochs_are_told_and_no_search(
    nasflow: Call, finished: tuple[Path, Path], tmp_path: Path, asked_at: Callable[[int], Said]
) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    said = asked_at(3 + 3)  # two epochs of the second seed are done

    code, out, err = nasflow("train", tmp_path / "run", "--epochs", 3, "--seeds", 2, "--json")

    assert code == 0, err
    trial = json.loads(out)["trial"]
    ((document, text),) = said
    assert document["final_training"] == {
        "trial": trial,
        "epochs": 3,
        "finished": [0],
        "unfinished": [{"number": 1, "epoch": 2}],
    }
    assert document["running"] == []
    assert text["state"].startswith("final training (process ")
    assert text["training"] == f"trial {trial} from scratch: seed 1 after epoch 2 of 3; finished: 0"
    assert text["trials"] == "16 of 16 ended, 0 failed, 0 unfinished"
    assert "searching" not in text["turn"]
    assert json.loads(nasflow("status", tmp_path / "run", "--json")[1])["final_training"] is None


def test_of_a_trial_that_runs_its_epoch_and_what_it_has_paid_are_told(
    nasflow: Call, tmp_path: Path, asked_at: Callable[[int], Said]
) -> None:
    config = write_config(tmp_path / "tiny.yaml", search={"trials": 4})
    said = asked_at(3 + 2)  # three trials of an epoch; then the promoted one, which goes on from epoch 1

    code, _, err = nasflow("search", config, "--run-dir", tmp_path / "run")

    assert code == 0, err
    ((document, text),) = said
    assert events(tmp_path / "run")[-3]["parent"] is not None
    assert document["running"] == [{"trial": 3, "epoch": 2, "budget": 3, "epochs": 1}]
    assert (document["trials"]["pending"], document["epochs"], document["final_training"]) == ([3], 3, None)
    assert text["running"] == "trial 3 after epoch 2 of 3"
    assert text["trials"] == "3 of 4 ended, 0 failed, 1 running"
    assert text["paid"].endswith("; 1 more by what is running")
    assert "searching" in text["turn"]
    document = json.loads(nasflow("status", tmp_path / "run", "--json")[1])
    assert (document["running"], document["epochs"]) == ([], 5)


@pytest.mark.parametrize("work", [None, "", "search", "../trial0-epochs1", "trial0-epochs1/../..", "trial0-epochsx"])
def test_what_a_lock_from_elsewhere_says_leads_nowhere(tmp_path: Path, work: str | None) -> None:
    (tmp_path / "final" / "trial0-epochs1" / "seed0").mkdir(parents=True)
    holder = LockHolder(host="here", pid=1, started=0.0, work=work)

    assert final_progress(RunDirectory(tmp_path), holder.work) is None


def test_a_line_of_an_epoch_that_is_half_written_is_passed_over(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for number, lines in enumerate(('{"epoch": 1, "train_loss": 2.0, "seconds": 0.1}\n{"epo', '{"epoch": Infinity}\n')):
        files = run.final_training(7, 9, number)
        files.root.mkdir(parents=True)
        files.metrics.write_text(lines)

    progress = final_progress(run, "trial7-epochs9")

    assert progress is not None
    assert [(each.number, each.epoch) for each in progress.unfinished] == [(0, 1), (1, None)]
