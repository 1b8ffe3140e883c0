"""`nasflow train`: what it trains on, that it ends as if it had never been interrupted, and what it says."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import write_config

from nasflow_cli import assemble
from nasflow_cli import final as final_module
from nasflow_cli.cli.signals import SIGNALS, leave_on_signals
from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.core.interrupt import Interrupted
from nasflow_cli.core.seeds import Purpose, derived_seed
from nasflow_cli.core.trial import Proposal, Trial
from nasflow_cli.execute.inline import InlineExecutor
from nasflow_cli.execute.protocol import Handler
from nasflow_cli.nets.builder import build
from nasflow_cli.search import Stop
from nasflow_cli.store.files import cannot_write
from nasflow_cli.store.final_results import final_trainings
from nasflow_cli.store.journal import history_of, read_events
from nasflow_cli.store.lock import RunLock
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data import Labelled, load_splits, store
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.final import FinalAssignment, FinalTrainer
from nasflow_cli.train.schedule import Schedule
from nasflow_cli.train.trainer import Trainer, scored_weights

Call = Callable[..., tuple[int, str, str]]
EPOCHS = 3


class KilledError(BaseException):
    """Stands for a process that dies at this moment: nothing catches it."""


@pytest.fixture
def searched(finished: tuple[Path, Path], tmp_path: Path) -> RunDirectory:
    """A copy of a finished tiny search."""
    shutil.copytree(finished[1], tmp_path / "run")
    return RunDirectory(tmp_path / "run")


@pytest.fixture(scope="module")
def trained(finished: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> FinalTrainer:
    """The final training of the best trial, made once without interruption, in a run directory of its own."""
    config = assemble.load(finished[0], [])
    trainer = FinalTrainer(config, RunDirectory(tmp_path_factory.mktemp("final")), torch.device("cpu"))
    trainer(assignment_in(RunDirectory(finished[1])), lambda: False)
    return trainer


def assignment_in(run: RunDirectory) -> FinalAssignment:
    return final_module.plan(run, None, EPOCHS, 1).assignment(0)


def best_of(run: RunDirectory) -> int:
    best = history_of(read_events(run.journal), run.journal).best()
    assert best is not None
    return best[0].number


def checkpoint(run: RunDirectory, trial: int, number: int = 0) -> dict[str, torch.Tensor]:
    return load_file(run.final_training(trial, EPOCHS, number).checkpoint)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_mean_and_spread_over_the_seeds_are_told_everywhere_and_the_journal_stays(
    nasflow: Call, searched: RunDirectory
) -> None:
    journal = searched.journal.read_bytes()
    code, out, err = nasflow("train", searched.root, "--seeds", 2, "--epochs", EPOCHS, "--json")

    document = json.loads(out)
    accuracies = [seed["test_accuracy"] for seed in document["seeds"]]
    assert code == 0, err
    assert (document["schema_version"], document["finished"], document["failed"]) == (1, True, [])
    assert (document["trial"], document["epochs"]) == (best_of(searched), EPOCHS)
    assert [(seed["number"], seed["num_train"], seed["num_test"]) for seed in document["seeds"]] == [
        (0, 240, 359),
        (1, 240, 359),
    ]
    assert len({seed["seed"] for seed in document["seeds"]}) == 2
    assert document["mean"] == pytest.approx(statistics.fmean(accuracies))
    assert document["spread"] == pytest.approx(statistics.stdev(accuracies))
    assert searched.journal.read_bytes() == journal
    line = f"test accuracy {document['mean']:.4f} +- {document['spread']:.4f}, mean of 2 seeds, 3 epochs on 240"
    assert line in nasflow("leaderboard", searched.root)[1]
    assert line in nasflow("show", searched.root)[1]
    (shown,) = json.loads(nasflow("show", searched.root, "--json")[1])["final"]
    assert shown["mean"] == document["mean"]
    assert json.loads(nasflow("leaderboard", searched.root, "--json")[1])["final"] == [shown]


def test_it_trains_on_all_but_the_test_split_and_scores_the_last_epoch_on_that(
    nasflow: Call, searched: RunDirectory, finished: tuple[Path, Path]
) -> None:
    code, out, _ = nasflow("train", searched.root, "--epochs", EPOCHS, "--json")

    torch.set_num_threads(1)
    experiment = assemble.check(assemble.load(finished[0], []))
    splits = load_splits(experiment.config.data_section)
    cpu, recipe = torch.device("cpu"), experiment.config.training
    seed = derived_seed(experiment.config.seed, 0, Purpose.FINAL)
    trial = history_of(read_events(searched.journal), searched.journal).trials[best_of(searched)]
    graph = experiment.space.graph(trial.architecture)
    network = build(graph, splits.input_shape, splits.num_classes, derived_seed(seed, 0, Purpose.WEIGHTS))
    by_hand = Trainer(network, recipe, Normalise(splits, cpu), seed, cpu)
    both = Labelled(
        images=np.concatenate([splits.train.images, splits.validation.images]),
        labels=np.concatenate([splits.train.labels, splits.validation.labels]),
    )
    rate = Schedule(recipe=recipe, budget=EPOCHS, horizon=EPOCHS).rate
    for number in range(EPOCHS):
        by_hand.epoch(number, Images.on(cpu, both), experiment.config.data_section.augment, rate)

    assert code == 0
    left = scored_weights(checkpoint(searched, trial.number))
    assert all(torch.equal(left[name], value) for name, value in scored_weights(by_hand.tensors()).items())
    assert json.loads(out)["mean"] == by_hand.evaluate(Images.on(cpu, splits.test)).accuracy


@pytest.mark.parametrize("after", [1, 2, EPOCHS])
def test_killed_and_started_again_it_ends_as_if_it_had_never_been(
    nasflow: Call, searched: RunDirectory, trained: FinalTrainer, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    command = ("train", searched.root, "--epochs", EPOCHS)
    epoch, write = Trainer.epoch, final_module.write_result

    def dying(self: Trainer, number: int, *rest: Any) -> float:
        if number == after:
            raise KilledError
        return epoch(self, number, *rest)

    def killed(*_: Any) -> None:
        raise KilledError

    monkeypatch.setattr(Trainer, "epoch", dying)
    monkeypatch.setattr(final_module, "write_result", killed)
    with pytest.raises(KilledError):
        nasflow(*command)
    trained_numbers: list[int] = []

    def counted(self: Trainer, number: int, *rest: Any) -> float:
        trained_numbers.append(number)
        return epoch(self, number, *rest)

    monkeypatch.setattr(Trainer, "epoch", counted)
    monkeypatch.setattr(final_module, "write_result", write)

    assert nasflow(*command)[0] == 0

    assert trained_numbers == list(range(after, EPOCHS))
    assert same(checkpoint(searched, best_of(searched)), checkpoint(trained.run, best_of(searched)))


FATAL = """\
import multiprocessing
import os
import signal
from pathlib import Path

import torch

from nasflow_cli.train.trainer import Trainer

killed, epoch = Path(__file__).with_name("killed"), Trainer.epoch


def fatal(self, number, *rest):
    loss = epoch(self, number, *rest)
    if number == 1 and not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return loss


if multiprocessing.parent_process() is not None:
    torch.set_num_threads(1)
    Trainer.epoch = fatal
"""
"""A plug-in with which the first worker to come to the end of its second epoch is killed."""


def test_a_worker_that_is_killed_costs_its_seed_alone_and_the_same_command_goes_on_to_the_same_bits(
    nasflow: Call, searched: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fatal_plugin.py").write_text(FATAL)
    monkeypatch.syspath_prepend(tmp_path)
    text = searched.resolved_config.read_text()
    assert "plugins: []" in text
    text = text.replace("plugins: []", "plugins: [fatal_plugin]").replace("kind: inline", "kind: local")
    searched.resolved_config.write_text(text.replace("workers: null", "workers: 1"))
    command = ("train", searched.root, "--epochs", EPOCHS, "--seeds", 2, "--json")

    code, out, err = nasflow(*command)

    ended = json.loads(out)
    assert (code, ended["finished"]) == (0, True)
    assert [seed["number"] for seed in ended["seeds"]] == [1]
    assert [(each["number"], "SIGKILL" in each["error"]) for each in ended["failed"]] == [(0, True)]
    assert "seed 0: failed: worker died: killed by signal 9 (SIGKILL)" in err

    code, out, _ = nasflow(*command)

    again = json.loads(out)
    assert (code, again["failed"], again["seeds"][1]) == (0, [], ended["seeds"][0])
    place = searched.final_training(best_of(searched), EPOCHS, 0)
    assert "going on from its checkpoint after 1 epoch\n" in place.log.read_text()
    assert [json.loads(line)["epoch"] for line in place.metrics.read_text().splitlines()] == [1, 2, 3]
    torch.set_num_threads(1)
    whole = FinalTrainer(assemble.load(searched.config, []), RunDirectory(tmp_path / "whole"), torch.device("cpu"))
    whole(final_module.plan(searched, None, EPOCHS, 2).assignment(0), lambda: False)
    assert same(load_file(place.checkpoint), checkpoint(whole.run, best_of(searched)))


def test_told_to_stop_it_checkpoints_at_the_end_of_the_epoch_and_goes_on_to_the_same_weights(
    searched: RunDirectory, trained: FinalTrainer
) -> None:
    trainer, assignment = FinalTrainer(trained.config, searched, torch.device("cpu")), assignment_in(searched)
    with pytest.raises(Interrupted, match="after epoch 1"):
        trainer(assignment, lambda: True)

    trainer(assignment, lambda: False)

    assert same(checkpoint(searched, assignment.trial), checkpoint(trained.run, assignment.trial))


def test_a_device_with_too_little_memory_for_a_batch_is_given_halves(
    searched: RunDirectory, trained: FinalTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch, parts = Trainer.epoch, []

    def crowded(self: Trainer, *rest: Any) -> float:
        parts.append(self.parts)
        if self.parts == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return epoch(self, *rest)

    monkeypatch.setattr(Trainer, "epoch", crowded)
    reply = FinalTrainer(trained.config, searched, torch.device("cpu"))(assignment_in(searched), lambda: False)

    assert parts == [1, 2, 2, 2]
    assert reply["epochs"] == EPOCHS
    assert ["half batches" in note for note in reply["notes"]] == [True]


def trained_by(handler: Handler, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The final training of one seed of a trial, with this in the place of its worker. Returns what was said."""
    (folder / "run" / "final" / "trial0-epochs1" / "seed0").mkdir(parents=True)
    monkeypatch.setattr(final_module, "_executor", lambda run, plan: InlineExecutor(lambda: handler, time.monotonic))
    trial = Trial(
        **{"number": 0, "architecture": Architecture(structure={}, operators={}), "key": "a", "budget": 1, "seed": 0},
        **{"phase": "structure", "turn": 0, "bracket": 0, "rung": 0, "slot": (0, 0, 0), "parent": None},
        proposal=Proposal(source="random"),
    )
    config = assemble.load(write_config(folder / "tiny.yaml"), [])
    plan = final_module.Plan(config=config, trial=trial, epochs=1, num_seeds=1, num_train=1)
    said: list[str] = []
    with final_module.open_training(RunDirectory(folder / "run"), plan, said.append, Stop()) as training:
        training.work()
    return said


@pytest.mark.parametrize(
    ("raised", "fact"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (
            cannot_write(Path("run/checkpoint"), OSError(errno.ENOSPC, "No space left on device")),
            "cannot write run/checkpoint: the disk is full (No space left on device)",
        ),
        (
            cannot_write(Path("run/checkpoint"), OSError(errno.EROFS, "Read-only file system")),
            "cannot write run/checkpoint: Read-only file system",
        ),
    ],
    ids=["any write", "full", "read-only"],
)
def test_a_disk_that_takes_nothing_stops_it_and_is_no_failure_of_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, fact: str
) -> None:
    def full(payload: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        raise raised

    with pytest.raises(RunDirectoryError) as caught:
        trained_by(full, tmp_path, monkeypatch)

    assert str(caught.value) == (
        f"seed 0: {fact}; no seed is to blame, and what could not be written counts as not yet run: mend this, then "
        "the same `nasflow train` goes on"
    )


def test_what_was_mended_on_the_way_is_said_and_kept_and_what_a_kill_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "run" / "final" / "trial0-epochs1" / "seed0" / ".nasflow-00.tmp"

    def mended(payload: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
        assert not left.exists()
        names = ("test_loss", "train_loss", "num_train", "num_test", "params", "flops", "gpu")
        return {"score": 0.5, "epochs": 1, "metrics": dict.fromkeys(names, 1), "notes": ["half batches"]}

    monkeypatch.setattr(final_module, "make_directory", lambda root: left.write_text("half"))
    said = trained_by(mended, tmp_path, monkeypatch)

    assert said[:2] == [
        "training trial 0 (key a) from scratch: 1 epoch on 1 example, validation included; 1 seed",
        "seed 0: half batches",
    ]
    (training,) = final_trainings(RunDirectory(tmp_path / "run"))
    assert training.results[0].notes == ("half batches",)
    assert training.to_json()["seeds"][0]["notes"] == ["half batches"]


def test_a_finished_seed_is_not_repeated(
    nasflow: Call, searched: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(nasflow("train", searched.root, "--epochs", EPOCHS, "--json")[1])
    epoch, seeds = Trainer.epoch, set()

    def noted(self: Trainer, number: int, *rest: Any) -> float:
        seeds.add(self.seed)
        return epoch(self, number, *rest)

    monkeypatch.setattr(Trainer, "epoch", noted)
    both = json.loads(nasflow("train", searched.root, "--epochs", EPOCHS, "--seeds", 2, "--json")[1])

    assert both["seeds"][0] == first["seeds"][0]
    assert seeds == {both["seeds"][1]["seed"]}


def test_a_signal_ends_it_with_its_exit_code_and_the_way_to_go_on(
    nasflow: Call, searched: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = Trainer.epoch

    def signalled(self: Trainer, number: int, *rest: Any) -> float:
        signal.raise_signal(signal.SIGTERM)
        return epoch(self, number, *rest)

    monkeypatch.setattr(Trainer, "epoch", signalled)
    code, out, err = nasflow("train", searched.root, "--epochs", 1, "--seeds", 2, "--json")

    assert code == 143
    assert (json.loads(out)["finished"], len(json.loads(out)["seeds"])) == (False, 1)
    again = f"nasflow train {searched.root} --trial {best_of(searched)} --epochs 1 --seeds 2"
    assert err.rstrip().endswith(again)
    monkeypatch.setattr(Trainer, "epoch", epoch)
    code, out, _ = nasflow(*again.split()[1:], "--json")
    assert (code, json.loads(out)["finished"], len(json.loads(out)["seeds"])) == (0, True, 2)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_data_is_decoded_ends_it_at_once_and_leaves_nothing_half(
    nasflow: Call, searched: RunDirectory, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, exit_code: int
) -> None:
    text = searched.resolved_config.read_text()
    searched.resolved_config.write_text(text.replace("data_gib: null", "data_gib: 0"))
    sums, went_on, before = store._sums, [], {known: signal.getsignal(known) for known in SIGNALS}

    def signalled(*rest: Any) -> Any:
        signal.raise_signal(number)  # all is decoded and nothing is whole
        went_on.append(True)
        return sums(*rest)

    monkeypatch.setattr(store, "_sums", signalled)
    leave_on_signals()
    try:
        code, out, err = nasflow("train", searched.root, "--epochs", 1)
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)

    assert (code, out, went_on) == (exit_code, "", []), err
    assert [path.name for path in searched.data.rglob("*") if path.is_file()] == ["lock"]
    monkeypatch.setattr(store, "_sums", sums)
    assert nasflow("train", searched.root, "--epochs", 1)[0] == 0


def test_a_second_signal_ends_it_at_once_and_still_says_the_way_to_go_on(
    nasflow: Call, searched: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(self: Trainer, number: int, *rest: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it went on")

    monkeypatch.setattr(Trainer, "epoch", signalled)
    code, out, err = nasflow("train", searched.root, "--epochs", 1)

    assert (code, out) == (130, "")
    again = f"nasflow train {searched.root} --trial {best_of(searched)} --epochs 1 --seeds 1"
    assert err.splitlines()[-1] == f"left at once, what is recorded is kept; go on with: {again}"


def test_a_time_limit_ends_it_with_75(nasflow: Call, searched: RunDirectory) -> None:
    code, _, err = nasflow("train", searched.root, "--epochs", 1, "--seeds", 2, "--time-limit", 0)

    assert code == 75
    assert "the time limit is reached" in err


def test_a_run_that_is_written_to_is_left_alone(nasflow: Call, searched: RunDirectory) -> None:
    with RunLock(searched.lock):
        code, _, err = nasflow("train", searched.root)

    assert code == 5
    assert "only one nasflow may write" in err
    assert "from scratch" not in err  # nothing is said to be trained that is not
    assert not searched.final.exists()


def test_a_trial_that_does_not_exist_is_refused(nasflow: Call, searched: RunDirectory) -> None:
    code, _, err = nasflow("train", searched.root, "--trial", 99)

    assert code == 2
    assert "has no trial 99 (there are 16, from 0)" in err


def test_a_damaged_result_is_named_and_nothing_is_trained(nasflow: Call, searched: RunDirectory) -> None:
    result = searched.final_training(best_of(searched), EPOCHS, 0).result
    result.parent.mkdir(parents=True)
    result.write_text("{")

    code, _, err = nasflow("train", searched.root, "--epochs", EPOCHS)

    assert code == 5
    assert f"{result} is damaged" in err
    assert list(result.parent.iterdir()) == [result]


def test_seeds_that_all_diverge_end_with_3_and_leave_no_result(nasflow: Call, searched: RunDirectory) -> None:
    text = searched.resolved_config.read_text()
    assert "learning_rate: 0.1\n" in text
    text = text.replace("learning_rate: 0.1\n", "learning_rate: 1.0e+30\n")
    searched.resolved_config.write_text(text.replace("gradient_clip: 5.0", "gradient_clip: null"))

    code, out, err = nasflow("train", searched.root, "--epochs", 1)

    assert (code, out) == (3, "")
    assert "the training loss became" in err
    assert list(searched.final.rglob("result.json")) == []
