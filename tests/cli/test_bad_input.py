"""Whatever a user gets wrong ends in one message, the documented exit code, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY, write_config

from nasflow_cli.store.lock import RunLock

Write = Callable[[Path], object]


def text(content: str) -> Write:
    return lambda path: path.write_text(content)


def tiny(**sections: object) -> Write:
    return lambda path: write_config(path, **sections)  # type: ignore[arg-type]


def raw(change: Callable[[dict[str, object]], object]) -> Write:
    def write(path: Path) -> None:
        config = json.loads(json.dumps(TINY))
        change(config)
        path.write_text(json.dumps(config, indent=1))

    return write


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)

CASES: dict[str, tuple[Write, int, list[str]]] = {
    "no such file": (lambda path: None, 2, ["there is no such file"]),
    "unknown key": (tiny(search={"trails": 3}), 2, ["search.trails", "did you mean 'trials'"]),
    "unknown section": (raw(lambda c: c.update(serch={})), 2, ["serch", "did you mean 'search'"]),
    "wrong type": (tiny(search={"trials": "many"}), 2, ["search.trials", "integer", "many"]),
    "float for a count": (tiny(search={"trials": 3.5}), 2, ["search.trials", "3.5"]),
    "missing section": (raw(lambda c: c.pop("space")), 2, ["space", "missing"]),
    "duplicate key": (text("name: a\nname: b\n"), 2, [":2:1:", "duplicate key 'name'", ":1:1"]),
    "not a mapping": (text("- a\n- b\n"), 2, ["mapping"]),
    "empty file": (text(""), 2, ["mapping", "empty"]),
    "not yaml": (text("data: [1,\n"), 2, ["not valid YAML"]),
    "a tag that would run code": (
        text("name: !!python/object/apply:os.system [touch proof]\n"),
        2,
        [":1:7:", "tag", "not allowed"],
    ),
    "a bomb": (text(BOMB), 2, ["unfolds"]),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe\x00name"), 2, ["UTF-8"]),
    "unknown operation": (
        raw(lambda c: c["space"]["cells"]["body"].update(operations=["conv3x3", "conv3x"])),  # type: ignore[index]
        2,
        ["space.cells.body.operations", "did you mean 'conv3x3'"],
    ),
    "empty domain": (
        raw(lambda c: c["space"]["cells"]["body"].update(operations=[])),  # type: ignore[index]
        2,
        ["space.cells.body.operations", "empty domain"],
    ),
    "unknown data source": (tiny(data={"source": "digit"}), 2, ["data.source", "did you mean 'digits'"]),
    "unknown cell": (
        raw(lambda c: c["space"]["stages"][0].update(cell="bodi")),  # type: ignore[index]
        2,
        ["bodi", "did you mean 'body'"],
    ),
    "impossible constraints": (
        raw(lambda c: c["space"].update(constraints={"params": {"max": 10}})),  # type: ignore[attr-defined]
        2,
        ["space.constraints", "nearest miss", "params"],
    ),
    "contradictory constraints": (
        raw(lambda c: c["space"].update(constraints={"params": {"min": 9, "max": 3}})),  # type: ignore[attr-defined]
        2,
        ["space.constraints.params", "at least 9 and at most 3"],
    ),
    "a space that connects nothing": (
        raw(lambda c: c["space"]["cells"]["body"].update(operations="none", residual=False)),  # type: ignore[index]
        2,
        ["space.constraints", "nothing of the input reaches"],
    ),
    "no choice anywhere": (
        raw(
            lambda c: (
                c["space"].update(activation={}, initialisation={}),  # type: ignore[attr-defined]
                c["space"]["cells"]["body"].update(nodes=1, operations="conv3x3", residual=False),  # type: ignore[index]
                c["space"].update(stages=[{"cell": "body", "width": 4}]),  # type: ignore[attr-defined]
            )
        ),
        2,
        ["nothing to search in either half"],
    ),
    "fewer trials than a bracket": (tiny(search={"trials": 2}), 2, ["search.trials", "first bracket"]),
    "budgets the wrong way round": (tiny(search={"budget": {"min": 5, "max": 2}}), 2, ["search.budget", "above max"]),
    "batches of one where a norm needs two": (
        raw(
            lambda c: (
                c["training"].update(batch_size=1),  # type: ignore[attr-defined]
                c["space"]["stages"][0].update(stride=2),  # type: ignore[index]
                c["space"]["stem"].update(stride=2),  # type: ignore[index]
            )
        ),
        2,
        ["training.batch_size: with one example in a batch", "set it to 2 or more"],
    ),
    "more workers than can be meant": (
        tiny(executor={"kind": "local", "workers": 100_000}),
        2,
        ["bad.yaml:", "executor.workers: 100000 workers are more than the 1024"],
    ),
    "a path in the name": (raw(lambda c: c.update(name="../x")), 2, ["name"]),
    "a missing plug-in": (raw(lambda c: c.update(plugins=["no_such_module_"])), 4, ["no_such_module_", "PYTHONPATH"]),
    "a missing data file": (tiny(data={"source": "npz", "path": "nowhere.npz"}), 4, ["nowhere.npz", "data.path"]),
    "more than one mistake": (tiny(search={"trials": "x", "elitse": 2}), 2, ["search.trials", "did you mean 'elites'"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_experiment_gets_its_message_its_exit_code_and_leaves_nothing_behind(
    case: str, nasflow: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, code, words = CASES[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "bad.yaml")
    before = sorted(tmp_path.rglob("*"))

    ended = nasflow("search", "bad.yaml")

    assert ended[0] == code, ended[2]
    assert ended[1] == ""
    assert "Traceback" not in ended[2]
    assert "bad.yaml" in ended[2]
    for word in words:
        assert word in ended[2]
    assert sorted(tmp_path.rglob("*")) == before


def images(count: int, labels: list[int]) -> Write:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    return lambda path: np.savez(path, x=pixels, y=np.array(labels))


DATA: dict[str, tuple[Write, list[str]]] = {
    "empty": (lambda path: path.write_bytes(b""), ["empty"]),
    "corrupt": (lambda path: path.write_bytes(b"PK\x03\x04 nothing"), ["data.npz"]),
    "labels out of range": (images(40, [0, 1, 2, -1] * 10), ["-1"]),
    "fewer images than classes": (images(3, [0, 1, 2]), ["class"]),
    "one class": (images(30, [0] * 30), ["class"]),
    "labels of another number": (images(30, [0, 1] * 10), ["30", "20"]),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data_gets_its_message_and_leaves_nothing_behind(
    case: str, nasflow: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, words = DATA[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data.npz")
    config = write_config(tmp_path / "data.yaml", data={"source": "npz", "path": "data.npz", "train_limit": None})
    before = sorted(tmp_path.rglob("*"))

    code, out, err = nasflow("search", config)

    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert all(word in err for word in words), err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_learning_rate_of_1e_3_is_the_number(nasflow: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.yaml")
    path.write_text(path.read_text() + "\n")

    code, out, _ = nasflow("check", path, "--set", "training.learning_rate=1e-3", "--json")

    assert code == 0
    assert json.loads(out)["trials"] == 16


def test_a_bad_override_is_named(nasflow: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, err = nasflow("check", write_config(tmp_path / "a.yaml"), "--set", "search.trails=3")

    assert code == 2
    assert "--set search.trails=3" in err
    assert "did you mean 'trials'" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_run_directory_is_refused(nasflow: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)

    code, _, err = nasflow("search", write_config(tmp_path / "a.yaml"), "--run-dir", tmp_path / "closed" / "run")

    assert code == 2
    assert "Permission denied" in err


def test_a_file_in_place_of_the_run_directory_is_refused(
    nasflow: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")

    code, _, err = nasflow("search", write_config(tmp_path / "a.yaml"), "--run-dir", tmp_path / "file")

    assert code == 2
    assert "file" in err
    assert "Traceback" not in err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_other_things_is_not_taken_as_run_directory(
    nasflow: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("mine")

    code, _, err = nasflow("search", write_config(tmp_path / "a.yaml"), "--run-dir", tmp_path / "photos")

    assert code == 2
    assert "no run directory" in err
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_the_run_directory_of_another_experiment_is_refused(
    nasflow: Callable[..., tuple[int, str, str]], finished: tuple[Path, Path], tmp_path: Path
) -> None:
    other = write_config(tmp_path / "other.yaml", seed=7)
    journal = (finished[1] / "journal.jsonl").read_bytes()

    code, _, err = nasflow("search", other, "--run-dir", finished[1])

    assert code == 2
    assert "another experiment: seed is 0 there and 7 here." in err
    assert (finished[1] / "journal.jsonl").read_bytes() == journal


def test_a_setting_that_a_run_may_not_go_on_with_is_named_with_both_values_and_those_that_may_change_are_listed(
    nasflow: Callable[..., tuple[int, str, str]], finished: tuple[Path, Path]
) -> None:
    resolved = (finished[1] / "config.resolved.yaml").read_bytes()

    code, out, err = nasflow("resume", finished[1], "--set", "training.learning_rate=0.2", "--set", "search.trials=99")

    assert (code, out) == (2, "")
    assert "another experiment: training.learning_rate is 0.1 there and 0.2 here." in err
    assert "only name, runs, executor, search.trials, search.time_limit_s, search.confirm," in err
    assert "nasflow resume" not in err  # that is what was tried
    assert (finished[1] / "config.resolved.yaml").read_bytes() == resolved


def test_a_run_whose_configuration_was_edited_is_told_so(
    nasflow: Callable[..., tuple[int, str, str]], finished: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    resolved = tmp_path / "run" / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("learning_rate: 0.1\n", "learning_rate: 0.3\n"))

    code, _, err = nasflow("resume", tmp_path / "run", "--set", "search.trials=99")

    assert code == 2
    assert f"{resolved} is not what it was begun with: put back what stood there" in err


def test_a_locked_run_directory_is_refused_with_its_holder(
    nasflow: Callable[..., tuple[int, str, str]], finished: tuple[Path, Path]
) -> None:
    with RunLock(finished[1] / "run.lock"):
        code, _, err = nasflow("search", finished[0], "--run-dir", finished[1])

    assert code == 5
    assert str(os.getpid()) in err


@pytest.mark.parametrize("command", ["status", "leaderboard", "show", "resume", "export-best"])
def test_a_damaged_journal_line_is_named(
    command: str, nasflow: Callable[..., tuple[int, str, str]], finished: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:6], '{"event": "told", "tri\n', *lines[7:]]))

    code, out, err = nasflow(command, tmp_path / "run")

    assert (code, out) == (5, "")
    assert "journal.jsonl:7" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["status", "leaderboard", "show", "resume", "export-best"])
def test_a_run_that_is_not_there_is_named(
    command: str, nasflow: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = nasflow(command, "nowhere", "--runs", tmp_path)

    assert (code, out) == (2, "")
    assert "nowhere" in err


def test_a_trial_that_is_not_there_is_named(
    nasflow: Callable[..., tuple[int, str, str]], finished: tuple[Path, Path]
) -> None:
    code, _, err = nasflow("show", finished[1], "--trial", "999")

    assert code == 2
    assert "no trial 999" in err


def test_weights_of_a_final_training_that_was_never_made_are_not_exported(
    nasflow: Callable[..., tuple[int, str, str]], finished: tuple[Path, Path], tmp_path: Path
) -> None:
    code, out, err = nasflow("export-best", finished[1], "--out", tmp_path / "out", "--weights", "final")

    assert (code, out) == (2, "")
    assert "has no final training; `nasflow train` makes one" in err


def test_an_unknown_option_is_a_usage_error(nasflow: Callable[..., tuple[int, str, str]]) -> None:
    assert nasflow("search", "--no-such-option").code == 2  # type: ignore[attr-defined]
