"""The invariants of docs/architecture.md, each by its number, on real searches."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import CrashError, events, run, timeless, write_config

import nasflow_cli
from nasflow_cli import assemble
from nasflow_cli.cli import inspect
from nasflow_cli.core.data_config import AugmentConfig
from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.core.trial import History, Trial
from nasflow_cli.store.journal import history_of, read_events
from nasflow_cli.store.lock import RunLock
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.checkpoint import CheckpointError, load_checkpoint
from nasflow_cli.train.child import ChildTrainer
from nasflow_cli.train.feed import Images
from nasflow_cli.train.protocol import Assignment
from nasflow_cli.train.schedule import Rate
from nasflow_cli.train.trainer import Trainer

PACKAGE = Path(nasflow_cli.__file__).parent


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished tiny search: (configuration, run directory)."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_config(folder / "tiny.yaml")
    assert run(config, folder / "run").finished
    return config, folder / "run"


@pytest.fixture
def copy(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same, for tests that change it."""
    config, directory = finished
    shutil.copytree(directory, tmp_path / "run")
    return config, tmp_path / "run"


def history_in(directory: Path) -> History:
    path = RunDirectory(directory).journal
    return history_of(read_events(path), path)


def test_invariant_1_all_but_the_journal_can_be_deleted_and_comes_back(copy: tuple[Path, Path]) -> None:
    config, directory = copy
    run_directory = RunDirectory(directory)
    before = run_directory.leaderboard_csv.read_text()
    configs = (run_directory.hpbandster / "configs.json").read_text()
    journal = run_directory.journal.read_text()
    lines = journal.splitlines(keepends=True)
    for child in directory.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    run_directory.journal.write_text("".join(lines[:-4]))  # the last results and the end are to be found anew

    assert run(config, directory).finished

    assert ranking(run_directory.leaderboard_csv.read_text()) == ranking(before)
    assert (run_directory.hpbandster / "configs.json").read_text() == configs
    again, known = timeless(directory), [dict(event) for event in timeless_lines(lines)]
    assert [e.get("score") for e in again] == [e.get("score") for e in known]


def ranking(table: str) -> list[tuple[str, str]]:
    """Key and score of each row of a leaderboard, best first."""
    return [(row["key"], row["score"]) for row in csv.DictReader(table.splitlines())]


def timeless_lines(lines: list[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("known", [1, 4, 9, 15, 22, 30])
def test_invariant_2_what_is_asked_is_a_function_of_the_history(finished: tuple[Path, Path], known: int) -> None:
    config, directory = finished
    whole = history_in(directory)
    optimizer = assemble.make_optimizer(assemble.check(assemble.load(config, [])))
    torch.set_num_threads(1)
    history = History()

    for position, event in enumerate(whole.events):
        if isinstance(event, Trial):
            if position >= known:
                assert optimizer.ask(history) == event
            history.asked(event)
        else:
            history.told(event)


def test_invariant_3_a_new_run_is_a_resumed_run_with_an_empty_journal(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    config, directory = finished
    with pytest.raises(CrashError):
        run(config, tmp_path / "run", crash_after=1)
    journal = RunDirectory(tmp_path / "run").journal
    journal.write_text("")

    assert run(config, tmp_path / "run").finished

    assert timeless(tmp_path / "run") == timeless(directory)


@pytest.mark.parametrize("crash_after", [1, 5, 11])
def test_invariant_3_an_interrupted_run_ends_as_an_uninterrupted_one(
    finished: tuple[Path, Path], tmp_path: Path, crash_after: int
) -> None:
    config, directory = finished
    with pytest.raises(CrashError):
        run(config, tmp_path / "run", crash_after=crash_after)
    journal = RunDirectory(tmp_path / "run").journal
    half_written = [path / ".nasflow-0.tmp" for path in (journal.parent, journal.parent / "trials" / "0")]
    for path in half_written:
        path.touch()

    assert run(config, tmp_path / "run").finished

    assert timeless(tmp_path / "run") == timeless(directory)
    assert not half_written[0].exists()


def test_invariant_4_a_failed_trial_is_told_with_its_error_and_has_no_score(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "tiny.yaml", training={"learning_rate": 1e30, "gradient_clip": None}, search={"trials": 4}
    )

    assert run(config, tmp_path / "run").finished

    told = [event for event in events(tmp_path / "run") if event["event"] == "told"]
    assert len(told) == 4
    assert {event["error_kind"] for event in told} == {"nan"}
    assert all(event["score"] is None and "loss" in event["error"] for event in told)


def test_invariant_5_a_second_writer_is_refused(copy: tuple[Path, Path]) -> None:
    config, directory = copy
    with RunLock(RunDirectory(directory).lock), pytest.raises(RunDirectoryError, match="only one nasflow"):
        run(config, directory)


def test_invariant_5_a_torn_last_line_is_cut_and_the_trial_is_run_again(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    config, directory = finished
    with pytest.raises(CrashError):
        run(config, tmp_path / "run", crash_after=14)
    journal = RunDirectory(tmp_path / "run").journal
    journal.write_bytes(journal.read_bytes()[:-40])

    assert run(config, tmp_path / "run").finished

    assert timeless(tmp_path / "run") == timeless(directory)


def test_invariant_6_no_key_is_trained_twice_at_the_same_budget_and_seed(finished: tuple[Path, Path]) -> None:
    trials = history_in(finished[1]).trials
    new = [trial for trial in trials if trial.parent is None]

    assert len({trial.key for trial in new}) == len(new)
    assert len({(trial.key, trial.budget, trial.seed) for trial in trials}) == len(trials)


def test_invariant_6_the_key_is_the_hash_of_what_the_network_computes(finished: tuple[Path, Path]) -> None:
    config, directory = finished
    space = assemble.check(assemble.load(config, [])).space

    for trial in history_in(directory).trials:
        assert space.graph(trial.architecture).key() == trial.key


def test_invariant_7_a_promoted_child_pays_only_for_the_epochs_that_are_new(finished: tuple[Path, Path]) -> None:
    history = history_in(finished[1])
    promoted = [trial for trial in history.trials if trial.parent is not None]
    assert promoted
    for trial in promoted:
        parent = history.trials[trial.parent or 0]
        lines = RunDirectory(finished[1]).trial(trial.number).metrics.read_text().splitlines()
        assert history.results[trial.number].epochs == trial.budget - parent.budget == len(lines)


def test_invariant_7_a_promoted_childs_weights_are_those_of_one_training(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    config_path, directory = finished
    history = history_in(directory)
    trial = next(trial for trial in history.trials if trial.parent is not None)
    assert trial.parent is not None
    config, cpu = assemble.load(config_path, []), torch.device("cpu")
    once, twice = RunDirectory(tmp_path / "once"), RunDirectory(tmp_path / "twice")
    report = ChildTrainer(config, once, cpu)(Assignment.of(trial, (trial.number,)), lambda: False)
    promoted = ChildTrainer(config, twice, cpu)
    promoted(Assignment.of(history.trials[trial.parent], (trial.parent,)), lambda: False)
    again = promoted(Assignment.of(trial, (trial.number, trial.parent)), lambda: False)

    assert report.score == again.score == history.results[trial.number].score
    assert again.epochs < report.epochs
    one, other = (load_file(run.trial(trial.number).checkpoint) for run in (once, twice))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_invariant_7_a_child_that_is_killed_in_an_epoch_has_the_epoch_before(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = next(trial for trial in history_in(finished[1]).trials if trial.budget == 3)
    config = assemble.load(finished[0], [])
    evaluator = ChildTrainer(config, RunDirectory(tmp_path), torch.device("cpu"))
    train = Trainer.epoch

    def dies_in_the_third(trainer: Trainer, number: int, split: Images, changes: AugmentConfig, rate: Rate) -> float:
        if number == 2:
            raise CrashError
        return train(trainer, number, split, changes, rate)

    monkeypatch.setattr(Trainer, "epoch", dies_in_the_third)
    with pytest.raises(CrashError):
        evaluator(Assignment.of(trial, (trial.number,)), lambda: False)

    kept = load_checkpoint(RunDirectory(tmp_path).trial(trial.number).checkpoint, trial.key, trial.seed)
    assert kept.epoch == 2


class Bomb:
    """Something that runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_invariant_8_a_pickle_in_place_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path, proof = tmp_path / "checkpoint.safetensors", tmp_path / "proof"
    path.write_bytes(pickle.dumps(Bomb(proof)))

    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, "key", 0)

    assert not proof.exists()


def sources() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))]


def test_invariant_8_nothing_in_the_package_can_unpickle() -> None:
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "cloudpickle", "marshal", "shelve"} & set(names), path
            if isinstance(node, ast.Attribute) and node.attr == "load":
                assert ast.unparse(node) not in {"torch.load", "yaml.load"}, path


def test_invariant_9_there_is_no_global_statement_and_no_global_generator() -> None:
    for path, tree in sources():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Global), path
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"np.random", "numpy.random"}:
                assert node.attr in {"Generator", "SeedSequence", "default_rng"}, f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random":
                pytest.fail(f"{path}:{node.lineno} uses the random module")


@pytest.mark.parametrize("room", ["core", "optim", "predict"])
def test_invariant_9_core_engine_and_predictor_read_no_clock(room: str) -> None:
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"time", "datetime"} & set(names), path


def test_the_journal_lets_a_reader_check_each_claim(finished: tuple[Path, Path]) -> None:
    asked = [event for event in events(finished[1]) if event["event"] == "asked"]

    assert {event["phase"] for event in asked} == {"structure", "operators"}
    for event in asked:
        assert {"turn", "bracket", "rung", "slot", "budget", "parent", "seed", "key"} <= event.keys()
        proposal = event["proposal"]
        assert {"ranked", "correlation", "filtered", "why", "predicted", "fitted_on", "source"} <= proposal.keys()
        assert (event["parent"] is None) == (proposal["ranked"] > 0)


def test_reading_a_run_changes_no_file(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    def fingerprint() -> dict[str, tuple[str, int]]:
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in sorted(finished[1].rglob("*"))
            if path.is_file()
        }

    before = fingerprint()
    for command in (inspect.status, inspect.leaderboard, inspect.show):
        command(str(finished[1]))
    assert capsys.readouterr().out
    assert fingerprint() == before
