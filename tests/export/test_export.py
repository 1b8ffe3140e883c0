"""A run's best network is exported, checked in a process of its own, and never half."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from small_run import make_run

from nasflow_cli import export as export_module
from nasflow_cli import final
from nasflow_cli.core.errors import ConfigError, NasflowError, RunDirectoryError
from nasflow_cli.core.registry import EVALUATORS
from nasflow_cli.export import Verified, export_best
from nasflow_cli.nets import fresh_process
from nasflow_cli.search import Stop
from nasflow_cli.store.export_directory import staged
from nasflow_cli.store.files import write_whole
from nasflow_cli.store.final_results import WeightsOf
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data.store import Stored
from nasflow_cli.train.trainer import scored_weights

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate_export.py"
FILES = ["model.safetensors", "model_card.json", "model_card.md", "network.py"]

Tell = list[str]


def snapshot(root: Path) -> dict[str, str]:
    """The content of every file below a directory."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def run(trained_run: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of the run, to be spoilt."""
    shutil.copytree(trained_run.root, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


@pytest.fixture(scope="module")
def finished(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Verified:
    """The export of the run in a place of its own, made once."""
    said: Tell = []
    verified = export_best(trained_run, tmp_path_factory.mktemp("exports") / "winner", said.append)
    assert said == []
    return verified


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check what was written without a process of its own, where that is not what a test is about: it takes seconds."""

    @contextmanager
    def here(source: Path, timeout_s: float) -> Iterator[Any]:
        spec = importlib.util.spec_from_file_location("exported_here", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        spec.loader.exec_module(module)
        network = module.load()
        with torch.inference_mode():
            yield lambda examples: network(examples.contiguous()).float()

    monkeypatch.setattr(export_module, "in_fresh_process", here)


def card_of(verified: Verified) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(verified.directory.card.read_text(encoding="utf-8"))
    return card


def test_the_promoted_trial_is_exported_with_its_own_score(finished: Verified) -> None:
    card = card_of(finished)

    assert (finished.trial, card["found"]["lineage"], card["found"]["budget_epochs"]) == (1, [1, 0], 6)
    assert finished.validation_accuracy == pytest.approx(finished.score, abs=1e-9)
    assert finished.score > 0.5  # ten classes: it has learned something
    assert finished.test_accuracy > 0.5
    assert not finished.trained_again


def test_the_card_says_what_the_network_is_and_how_it_was_found(finished: Verified) -> None:
    card = card_of(finished)

    assert sorted(path.name for path in finished.directory.root.iterdir()) == FILES
    assert card["schema_version"] == 1
    assert (card["input"]["shape"], card["input"]["value_range"], card["classes"][3]) == ([1, 8, 8], [0, 255], "3")
    assert (card["test"]["num_images"], len(card["split"]["test_indices"])) == (359, 359)
    assert card["training"]["learning_rate"] == 0.1
    for name, sha256 in card["sha256"].items():
        assert hashlib.sha256((finished.directory.root / name).read_bytes()).hexdigest() == sha256
    trained = sum(t.numel() for n, t in load(finished.directory.weights.read_bytes()).items() if "running" not in n)
    num_counters = sum(n.endswith("num_batches_tracked") for n in load(finished.directory.weights.read_bytes()))
    assert card["params"] == trained - num_counters


def test_the_readable_card_shows_the_accuracies_and_how_to_use_it(finished: Verified) -> None:
    text = finished.directory.readable_card.read_text(encoding="utf-8")

    assert f"| test accuracy | {finished.test_accuracy:.4f} on 359 images |" in text
    assert "from network import CLASSES, load" in text
    assert "it went on from trial 0" in text


@pytest.mark.usefixtures("in_this_process")
def test_the_default_place_is_the_runs_own_and_nothing_else_of_it_changes(run: RunDirectory) -> None:
    before = snapshot(run.root)

    export_best(run, None, lambda _: None)

    assert snapshot(run.root) == {**before, **{f"export/{k}": v for k, v in snapshot(run.export).items()}}
    assert sorted(path.name for path in run.export.iterdir()) == FILES


def evaluate(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(directory)], capture_output=True, text=True, check=False
    )


def test_the_script_without_nasflow_finds_the_cards_test_accuracy(finished: Verified) -> None:
    done = evaluate(finished.directory.root)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"test accuracy {finished.test_accuracy:.4f}")
    assert sorted(path.name for path in finished.directory.root.iterdir()) == FILES


def test_the_script_fails_when_the_card_claims_two_images_more(finished: Verified, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.directory.root, copy)
    card = card_of(finished)
    card["test"]["accuracy"] += 2 / 359
    (copy / "model_card.json").write_text(json.dumps(card), encoding="utf-8")

    assert evaluate(copy).returncode == 1


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("damage", ["missing", "cut short", "of its parent"])
def test_a_child_whose_checkpoint_is_lost_is_trained_again_to_the_same_weights(
    run: RunDirectory, finished: Verified, damage: str
) -> None:
    checkpoint = run.trial(1).checkpoint
    if damage == "missing":
        checkpoint.unlink()
    elif damage == "cut short":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    else:
        shutil.copy(run.trial(0).checkpoint, checkpoint)
    before, said = snapshot(run.root), Tell()

    verified = export_best(run, None, said.append, torch.device("cpu"))

    assert "its checkpoint cannot be used" in said[0]
    assert "training trial 1 again, 6 epochs" in said[1]
    assert verified.trained_again
    assert verified.directory.weights.read_bytes() == finished.directory.weights.read_bytes()
    assert snapshot(run.root).items() >= before.items()


@pytest.fixture(scope="module")
def finally_trained(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with a final training of as many epochs as the search trained its winner for, two seeds."""
    root = tmp_path_factory.mktemp("final") / "run"
    shutil.copytree(trained_run.root, root)
    (root / "config.resolved.yaml").write_text((root / "config.resolved.yaml").read_text().replace("local", "inline"))
    plan = final.plan(RunDirectory(root), 1, 6, 2)
    with final.open_training(RunDirectory(root), plan, lambda _: None, Stop()) as training:
        trained = training.work()
    assert trained.finished
    return RunDirectory(root)


@pytest.mark.usefixtures("in_this_process")
def test_the_weights_of_a_final_training_are_preferred_those_of_its_first_seed(
    finally_trained: RunDirectory, tmp_path: Path
) -> None:
    verified = export_best(finally_trained, tmp_path / "out", lambda _: None)

    card, trained = card_of(verified), verified.final
    assert trained is not None
    left = scored_weights(load(finally_trained.final_training(1, 6, 0).checkpoint.read_bytes()))
    exported = load(verified.directory.weights.read_bytes())
    assert len(left) == len(exported)
    assert all(any(torch.equal(value, other) for other in exported.values()) for value in left.values())
    assert (verified.validation_accuracy, card["validation"]) == (None, None)
    assert verified.test_accuracy == card["test"]["accuracy"] == trained.results[0].test_accuracy
    assert (card["final"]["weights_of_seed"], card["final"]["num_seeds"], card["final"]["epochs"]) == (0, 2, 6)
    assert card["final"]["num_train"] == 1797 - 359
    assert (card["found"]["score"], card["final"]["mean_test_accuracy"]) == (verified.score, trained.mean)
    text = verified.directory.readable_card.read_text(encoding="utf-8")
    assert "none: it was trained on the validation data as well" in text
    assert "The weights are of seed 0, the first: none is chosen by its test accuracy." in text


@pytest.mark.usefixtures("in_this_process")
def test_a_final_training_that_has_another_test_accuracy_ends_the_export(
    finally_trained: RunDirectory, tmp_path: Path
) -> None:
    shutil.copytree(finally_trained.root, tmp_path / "run")
    result = RunDirectory(tmp_path / "run").final_training(1, 6, 0).result
    told = json.loads(result.read_text())
    result.write_text(json.dumps({**told, "test_accuracy": told["test_accuracy"] + 2 / 359}))

    with pytest.raises(
        NasflowError, match=r"is recorded with a test accuracy of .* test accuracy of .*nothing was kept"
    ):
        export_best(RunDirectory(tmp_path / "run"), tmp_path / "out", lambda _: None)


@pytest.mark.usefixtures("in_this_process")
def test_without_the_weights_of_the_final_training_those_of_the_search_are_exported(
    finally_trained: RunDirectory, finished: Verified, tmp_path: Path
) -> None:
    shutil.copytree(finally_trained.root, tmp_path / "run")
    RunDirectory(tmp_path / "run").final_training(1, 6, 0).checkpoint.unlink()
    said: Tell = []

    verified = export_best(RunDirectory(tmp_path / "run"), tmp_path / "out", said.append)

    assert "the final training of trial 1 has no weights (checkpoint.safetensors is not there)" in said[0]
    assert verified.final is None
    assert verified.directory.weights.read_bytes() == finished.directory.weights.read_bytes()


@pytest.fixture(scope="module")
def briefly_trained(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with a final training of one epoch, where the search trained its winner for six."""
    root = tmp_path_factory.mktemp("brief") / "run"
    shutil.copytree(trained_run.root, root)
    (root / "config.resolved.yaml").write_text((root / "config.resolved.yaml").read_text().replace("local", "inline"))
    plan = final.plan(RunDirectory(root), 1, 1, 1)
    with final.open_training(RunDirectory(root), plan, lambda _: None, Stop()) as training:
        assert training.work().finished
    return RunDirectory(root)


@pytest.mark.usefixtures("in_this_process")
def test_a_short_try_of_a_final_training_takes_not_the_place_of_the_weights_of_the_search(
    briefly_trained: RunDirectory, finished: Verified, tmp_path: Path
) -> None:
    said: Tell = []

    verified = export_best(briefly_trained, tmp_path / "out", said.append)

    assert verified.final is None
    assert verified.directory.weights.read_bytes() == finished.directory.weights.read_bytes()
    assert said == [
        "the weights are those of the search, after 6 epochs: the longest final training has only 1 "
        "(--weights final takes it all the same)"
    ]


@pytest.mark.usefixtures("in_this_process")
def test_whose_weights_are_handed_over_may_be_said(
    briefly_trained: RunDirectory, finally_trained: RunDirectory, finished: Verified, tmp_path: Path
) -> None:
    brief = export_best(briefly_trained, tmp_path / "brief", lambda _: None, wanted=WeightsOf.FINAL)
    searched = export_best(finally_trained, tmp_path / "searched", lambda _: None, wanted=WeightsOf.SEARCH)

    assert (brief.final is not None and brief.final.epochs, card_of(brief)["final"]["epochs"]) == (1, 1)
    assert searched.final is None
    assert searched.directory.weights.read_bytes() == finished.directory.weights.read_bytes()


def test_weights_of_a_final_training_that_are_wanted_and_not_there_are_nothing_elses(
    run: RunDirectory, briefly_trained: RunDirectory, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="trial 1 has no final training; `nasflow train` makes one"):
        export_best(run, tmp_path / "out", lambda _: None, wanted=WeightsOf.FINAL)
    shutil.copytree(briefly_trained.root, tmp_path / "lost")
    RunDirectory(tmp_path / "lost").final_training(1, 1, 0).checkpoint.unlink()

    with pytest.raises(RunDirectoryError, match="has no weights"):
        export_best(RunDirectory(tmp_path / "lost"), tmp_path / "out", lambda _: None, wanted=WeightsOf.FINAL)

    assert not (tmp_path / "out").exists()


def test_wanted_weights_of_a_final_training_that_fit_another_network_are_not_made_up_for(
    briefly_trained: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_fits", lambda *_: False)

    with pytest.raises(RunDirectoryError, match="the checkpoint of the final training is of another network"):
        export_best(briefly_trained, tmp_path / "out", lambda _: None, wanted=WeightsOf.FINAL)

    assert not (tmp_path / "out").exists()


def spoil(monkeypatch: pytest.MonkeyPatch, file: str, change: Callable[[bytes], bytes]) -> None:
    """Change one file of the export as it is written."""

    def write(path: Path, data: bytes | str) -> None:
        raw = data.encode() if isinstance(data, str) else data
        write_whole(path, change(raw) if path.name == file else raw)

    monkeypatch.setattr(export_module, "write_whole", write)


def shifted(raw: bytes) -> bytes:
    tensors = load(raw)
    tensors["head.5.bias"] = tensors["head.5.bias"] + 0.1
    return save(tensors)


def test_weights_that_are_not_what_was_trained_are_found_and_leave_nothing(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil(monkeypatch, "model.safetensors", shifted)
    before = snapshot(tmp_path)

    with pytest.raises(NasflowError, match="do not compute what the trained network computes: a logit"):
        export_best(run, tmp_path / "new" / "deeper" / "out", lambda _: None)

    assert snapshot(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_file_that_does_not_load_is_found_and_the_earlier_export_stays(
    run: RunDirectory, finished: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.directory.root, run.export)
    spoil(monkeypatch, "model.safetensors", lambda raw: raw[:-50])
    before = snapshot(run.root)

    with pytest.raises(NasflowError, match="does not run in a process of its own"):
        export_best(run, None, lambda _: None)

    assert snapshot(run.root) == before
    assert [path.name for path in run.root.glob(".*")] == []


@pytest.mark.usefixtures("in_this_process")
def test_a_score_that_the_weights_do_not_reach_ends_the_export(run: RunDirectory) -> None:
    lines = run.journal.read_text(encoding="utf-8").splitlines()
    told = json.loads(lines[-1])
    told["score"] += 2 / 288
    run.journal.write_text("\n".join([*lines[:-1], json.dumps(told)]) + "\n", encoding="utf-8")

    with pytest.raises(NasflowError, match="was journalled with a score of"):
        export_best(run, None, lambda _: None)

    assert not run.export.exists()


@pytest.mark.usefixtures("in_this_process")
def stream(run: RunDirectory) -> None:
    """Have no data held in memory."""
    text = run.resolved_config.read_text()
    assert "data_gib: null" in text
    run.resolved_config.write_text(text.replace("data_gib: null", "data_gib: 0"))


@pytest.mark.usefixtures("in_this_process")
def test_streamed_data_is_scored_batch_by_batch_to_the_same_numbers(
    run: RunDirectory, finished: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = Stored.read, []
    monkeypatch.setattr(Stored, "read", lambda self, rows: asked.append(rows) or read(self, rows))
    stream(run)

    verified = export_best(run, None, lambda _: None)

    assert (verified.validation_accuracy, verified.test_accuracy) == (
        finished.validation_accuracy,
        finished.test_accuracy,
    )
    assert max(map(len, asked)) <= export_module.BATCH_SIZE
    card = card_of(verified)
    num_scored = card["validation"]["num_images"] + card["test"]["num_images"]
    assert np.concatenate(asked).tolist() == list(range(card["split"]["num_train"], 1797))
    assert num_scored == 1797 - card["split"]["num_train"]


@pytest.mark.usefixtures("in_this_process")
def test_streamed_data_that_is_damaged_is_decoded_again_and_an_unsound_disk_is_said(
    run: RunDirectory, finished: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream(run)
    export_best(run, None, lambda _: None)
    (stored,) = run.data.rglob("examples.bin")
    damaged = bytearray(stored.read_bytes())
    damaged[-1] ^= 1
    stored.write_bytes(damaged)
    said: Tell = []

    assert export_best(run, None, said.append).test_accuracy == finished.test_accuracy
    assert said == [f"{stored}: example 1796 is not what was written; the data is decoded again"]

    read = Stored.read

    def spoilt(self: Stored, rows: Any) -> Any:
        self.path.write_bytes(damaged)
        return read(self, rows)

    monkeypatch.setattr(Stored, "read", spoilt)
    with pytest.raises(RunDirectoryError, match="once more; see whether the disk is sound"):
        export_best(run, None, said.append)


def test_an_earlier_export_is_replaced_whole(run: RunDirectory, finished: Verified) -> None:
    shutil.copytree(finished.directory.root, run.export)
    (run.export / "network.py").write_text("old", encoding="utf-8")
    (run.export / "__pycache__").mkdir()

    export_best(run, None, lambda _: None)

    assert sorted(path.name for path in run.export.iterdir()) == FILES
    assert (run.export / "network.py").read_text(encoding="utf-8") != "old"
    assert [path.name for path in run.root.glob(".*")] == []


def test_a_directory_with_other_things_in_it_is_refused_untouched(run: RunDirectory, tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("years of work", encoding="utf-8")

    with pytest.raises(ConfigError, match="is not empty and was not made by"):
        export_best(run, precious, lambda _: None)

    assert [path.name for path in precious.iterdir()] == ["chapter1.tex"]


def test_a_users_file_beside_an_earlier_export_is_not_lost(run: RunDirectory, finished: Verified) -> None:
    shutil.copytree(finished.directory.root, run.export)
    (run.export / "notes.txt").write_text("mine", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"also notes\.txt, which would be lost"):
        export_best(run, None, lambda _: None)

    assert (run.export / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_link_in_the_run_is_refused_also_for_an_export_elsewhere(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    run.data.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RunDirectoryError, match="link"):
        export_best(run, tmp_path / "out", lambda _: None)

    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_directory_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")

    with pytest.raises(ConfigError, match="cannot export to"):
        export_best(run, tmp_path / "out", lambda _: None)


def test_a_directory_that_fills_up_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def export() -> None:
        with staged(out) as directory:
            directory.source.write_text("new", encoding="utf-8")
            out.mkdir()
            (out / "other").write_text("somebody's", encoding="utf-8")

    with pytest.raises(ConfigError, match="is not empty"):
        export()

    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["other"]


def test_a_run_that_has_no_score_yet_has_nothing_to_export(run: RunDirectory) -> None:
    header = run.journal.read_text(encoding="utf-8").splitlines()[0]
    run.journal.write_text(header + "\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="no trial has a score yet"):
        export_best(run, None, lambda _: None)


def test_a_run_whose_evaluator_trains_nothing_is_told_so(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EVALUATORS, "_entries", dict(EVALUATORS._entries))
    EVALUATORS.register("looked_up")(lambda config, run, device: None)
    text = run.resolved_config.read_text(encoding="utf-8")
    run.resolved_config.write_text(text.replace("evaluator: train", "evaluator: looked_up"), encoding="utf-8")
    run.trial(1).checkpoint.unlink()

    with pytest.raises(ConfigError, match="the evaluator 'looked_up' trains none"):
        export_best(run, None, lambda _: None)


PLAIN = "from torch import nn\ndef load():\n    return nn.Flatten()\n"


def in_fresh_process(folder: Path, source: str, timeout_s: float = 60.0, *batches: torch.Tensor) -> list[torch.Tensor]:
    path = folder / "network.py"
    path.write_text(source, encoding="utf-8")
    with fresh_process.in_fresh_process(path, timeout_s) as logits:
        return [logits(batch) for batch in batches or (torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2),)]


def test_the_fresh_process_answers_for_every_image_in_order_whatever_it_prints(tmp_path: Path) -> None:
    loud = PLAIN.replace("def load():", "print('[2, 2]', flush=True)\ndef load():\n    print('hello')")
    images = torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2).contiguous(memory_format=torch.channels_last)
    vectors = torch.tensor([[0.25, -1e30, float("inf")]])

    answers = in_fresh_process(tmp_path, loud, 60.0, images, vectors, images[1:])

    assert [answer.tolist() for answer in answers] == [
        [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]],
        vectors.tolist(),
        [[4.0, 5.0, 6.0, 7.0]],
    ]


def test_a_fresh_process_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    dying = "import os, sys\ndef load():\n    sys.exit('the last words')\n"

    with pytest.raises(NasflowError, match=r"\(exit code 1\): the last words"):
        in_fresh_process(tmp_path, dying, 60.0, torch.zeros(3000, 3, 32, 32, dtype=torch.uint8))


def test_a_fresh_process_that_imported_nasflow_is_not_believed(tmp_path: Path) -> None:
    borrowed = "import sys, types\nsys.modules['nasflow_cli.nets'] = types.ModuleType('nasflow_cli.nets')\n" + PLAIN

    with pytest.raises(NasflowError, match=r"it imported nasflow_cli\.nets"):
        in_fresh_process(tmp_path, borrowed)


def test_a_fresh_process_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(NasflowError, match=r"did not answer within 0\.5 s"):
        in_fresh_process(tmp_path, "import threading\nthreading.Event().wait()\n", timeout_s=0.5)


def test_a_fresh_process_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    (tmp_path / "network.py").write_text("import threading\nthreading.Event().wait()\n", encoding="utf-8")
    command = [sys.executable, "-I", "-B", "-c", fresh_process._PROGRAM, str(tmp_path / "network.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None

    process.stdin.close()  # as the system does for a parent that was killed

    try:
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait()
