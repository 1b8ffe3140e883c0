"""The commands as a shell script meets them: streams, JSON documents, exit codes, signals, kill -9."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import shell, start
from made_pictures import pictures
from tiny import events, timeless, write_config

LOCAL = {"kind": "local", "workers": 1}
ROW = {
    *("rank", "trial", "key", "score", "spread", "seeds", "budget", "params", "flops", "seconds", "phase"),
    *("structure", "operators", "metrics"),
}

Call = Callable[..., tuple[int, str, str]]


def until_told(process: subprocess.Popen[str], count: int) -> None:
    """Read a search's progress until so many results have been shown."""
    assert process.stderr is not None
    for line in process.stderr:
        count -= line.startswith("[")
        if count == 0:
            return
    pytest.fail("the search ended before that")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A search by the command line with one worker process: (configuration, run directory)."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    config = write_config(folder / "tiny.yaml", executor=LOCAL)
    ended = shell("search", config, cwd=folder)
    assert ended.code == 0, ended.err
    directory = folder / ended.out.splitlines()[-1]
    assert (folder / "runs" / "latest").resolve() == directory.resolve()
    assert "\x1b" not in ended.out + ended.err
    assert ended.out.count("\n") == 1
    return config, directory


def test_a_search_that_was_killed_ends_as_one_that_never_was(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    config, directory = uninterrupted
    process = start("search", config, "--run-dir", tmp_path / "run", cwd=tmp_path)
    until_told(process, 5)
    process.kill()
    process.communicate()

    assert shell("resume", tmp_path / "run", cwd=tmp_path).code == 0

    assert timeless(tmp_path / "run") == timeless(directory)


def test_ctrl_c_stops_the_search_with_its_exit_code_and_nothing_is_lost(
    uninterrupted: tuple[Path, Path], tmp_path: Path
) -> None:
    config, directory = uninterrupted
    process = start("search", config, "--run-dir", tmp_path / "run", cwd=tmp_path)
    until_told(process, 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert out.splitlines()[-1] == str(tmp_path / "run")
    assert "nasflow resume" in err
    known = timeless(tmp_path / "run")
    assert known == timeless(directory)[: len(known)]


def test_a_search_whose_trials_all_fail_has_its_own_exit_code(nasflow: Call, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "a.yaml", training={"learning_rate": 1e30, "gradient_clip": None}, search={"trials": 4}
    )

    code, out, err = nasflow("search", config, "--run-dir", tmp_path / "run")

    assert code == 3
    assert out.splitlines()[-1] == str(tmp_path / "run")
    assert "not one trial has a score" in err
    for command in ("export-best", "train", "show"):
        code, out, err = nasflow(command, tmp_path / "run")
        assert (code, out, "finished without one valid trial" in err) == (3, "", True)


def test_a_search_that_was_stopped_before_its_first_score_is_not_called_finished_without_one(
    nasflow: Call, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "a.yaml")
    run = tmp_path / "run"
    assert nasflow("search", config, "--run-dir", run, "--set", "search.time_limit_s=0.001")[0] == 75
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(lines[:2]))  # as if it had been killed in its first trial

    for command in ("export-best", "train", "show"):
        code, out, err = nasflow(command, run)
        assert (code, out) == (2, "")
        assert f"no trial has a score yet; `nasflow resume {run}` goes on" in err


@pytest.mark.parametrize(("trials", "said"), [(15, True), (16, False)])
def test_a_search_says_when_its_plan_leaves_trials_unused(
    nasflow: Call, tmp_path: Path, trials: int, said: bool
) -> None:
    config = write_config(tmp_path / "a.yaml", search={"trials": trials, "time_limit_s": 0.001})

    code, _, err = nasflow("search", config, "--run-dir", tmp_path / "run")

    planned = json.loads(nasflow("check", config, "--json")[1])["trials"]
    assert (code, planned < trials) == (75, said)
    assert (f"the plan takes {planned} of the {trials} trials of search.trials" in err) is said


def test_resuming_a_finished_run_leaves_it_as_it_is(nasflow: Call, finished: tuple[Path, Path]) -> None:
    journal = (finished[1] / "journal.jsonl").read_bytes()

    code, out, err = nasflow("resume", finished[1])

    assert code == 0
    assert out.strip() == str(finished[1])
    assert "finished" in err
    assert (finished[1] / "journal.jsonl").read_bytes() == journal


def test_the_leaderboard_document_has_the_promised_fields(nasflow: Call, finished: tuple[Path, Path]) -> None:
    code, out, _ = nasflow("leaderboard", finished[1], "--json")

    document = json.loads(out)
    assert code == 0
    assert document["schema_version"] == 1
    assert [row["rank"] for row in document["rows"]] == list(range(1, len(document["rows"]) + 1))
    assert all(set(row) == ROW for row in document["rows"])
    full = [row["score"] for row in document["rows"] if row["budget"] == 3]
    assert full == sorted(full, reverse=True)
    assert all(isinstance(row["params"], int) and row["params"] > 0 for row in document["rows"])


def test_the_leaderboard_files_agree_with_the_command(nasflow: Call, finished: tuple[Path, Path]) -> None:
    document = json.loads(nasflow("leaderboard", finished[1], "--json")[1])

    assert {**json.loads((finished[1] / "leaderboard.json").read_text()), "final": []} == document
    with (finished[1] / "leaderboard.csv").open(newline="") as file:
        assert [row["key"] for row in csv.DictReader(file)] == [row["key"] for row in document["rows"]]


def test_status_tells_how_far_a_run_is(nasflow: Call, finished: tuple[Path, Path]) -> None:
    document = json.loads(nasflow("status", finished[1], "--json")[1])

    assert document["schema_version"] == 1
    assert document["state"] == "finished"
    assert document["trials"]["planned"] == document["trials"]["scored"] == 16
    assert document["best"]["result"]["score"] > 0
    assert "finished" in nasflow("status", finished[1])[1]


def test_check_counts_the_stems_that_a_falling_rate_leaves_and_the_epochs_that_its_branches_pay(
    nasflow: Call, finished: tuple[Path, Path]
) -> None:
    budget = ["--set", "search.budget.min=2", "--set", "search.budget.max=4", "--set", "search.budget.eta=2"]
    plain = json.loads(nasflow("check", finished[0], "--json", *budget)[1])
    falling = ["--set", "training.schedule=decay", "--set", "training.decay_fraction=0.5"]
    plan = json.loads(nasflow("check", finished[0], "--json", *budget, *falling)[1])

    # Who is promoted from epoch 2 goes on from epoch 1.
    promoted = sum(count for each in plan["brackets"] for count in each["counts"][1:])
    assert plan["epochs"] == plain["epochs"] + promoted
    assert plan["disk_bytes"] == 2 * plain["disk_bytes"] > 0


def test_status_tells_what_was_paid_and_what_rungs_from_scratch_would_have_cost(
    nasflow: Call, finished: tuple[Path, Path]
) -> None:
    document = json.loads(nasflow("status", finished[1], "--json")[1])
    asked = [event for event in events(finished[1]) if event["event"] == "asked"]
    promoted = [event for event in asked if event["parent"] is not None]

    # Its rungs are 1 and 3 epochs: a promoted child does not repeat the first.
    assert len(promoted) > 0
    assert document["epochs_from_scratch"] == sum(event["budget"] for event in asked)
    assert document["epochs"] == document["epochs_from_scratch"] - len(promoted)


def test_show_tells_how_a_trial_came_about(nasflow: Call, finished: tuple[Path, Path]) -> None:
    document = json.loads(nasflow("show", finished[1], "--trial", "0", "--json")[1])

    assert document["trial"] == 0
    assert document["result"]["metrics"]["params"] > 0
    assert document["structure"]
    assert document["operators"]
    text = nasflow("show", finished[1], "--trial", "0")[1]
    assert document["key"] in text
    assert "stages.0.width" in text


def test_check_prints_the_plan(nasflow: Call, finished: tuple[Path, Path]) -> None:
    plan = json.loads(nasflow("check", finished[0], "--json")[1])

    assert plan["schema_version"] == 1
    assert plan["data"]["shape"] == [1, 8, 8]
    assert (plan["data"]["train"], plan["data"]["validation"], plan["data"]["test"]) == (180, 60, 359)
    assert plan["trials"] == sum(sum(bracket["counts"]) for bracket in plan["brackets"])
    assert [bracket["phase"] for bracket in plan["brackets"][:2]] == ["structure", "operators"]
    assert nasflow("check", finished[0])[0] == 0


def test_check_and_search_say_what_lies_beside_the_images_and_is_not_read(nasflow: Call, tmp_path: Path) -> None:
    for row, picture in enumerate(pictures(60)[1]):
        folder = tmp_path / "images" / "ab"[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(picture)
    (tmp_path / "images" / "a" / "60.tiff").write_bytes(b"an image of another kind")
    config = write_config(tmp_path / "tiny.yaml", data={"source": "folder", "path": str(tmp_path / "images")})
    told = "not read are 1 .tiff; images are files"

    assert told in nasflow("check", config)[1]
    assert told in json.loads(nasflow("check", config, "--json")[1])["notes"][0]
    searched = nasflow("search", config, "--run-dir", tmp_path / "run", "--set", "search.time_limit_s=0.001")
    assert told in searched[2]
    assert searched[0] == 75


def test_check_and_search_note_what_is_valid_and_seldom_meant(nasflow: Call, tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.yaml", training={"batch_size": 1000}, search={"time_limit_s": 1e-3})
    note = "training.batch_size: 1000 is more than the 180 training examples, so that an epoch is a single step"

    assert json.loads(nasflow("check", config, "--json")[1])["notes"] == [note]
    assert f"  note      {note}\n" in nasflow("check", config)[1]
    assert f"note: {note}\n" in nasflow("search", config, "--run-dir", tmp_path / "run")[2]


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ((), "cpu:0, cpu:1, on a Ray that is started for the search"),
        (
            ("--set", "executor.ray.address=head:6379"),
            "as many as the Ray cluster head:6379 has room for, at most 2; it",
        ),
    ],
)
def test_check_says_where_on_ray_trials_would_run_and_asks_no_ray(
    nasflow: Call,
    finished: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    workers: str,
) -> None:
    def asked(name: str, main: object) -> None:
        pytest.fail("check asked Ray")

    monkeypatch.setattr("nasflow_cli.execute.cluster.WorkerProcess", asked)
    monkeypatch.setattr("nasflow_cli.assemble.require_ray", lambda *, starts: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    code, out, _ = nasflow("check", finished[0], "--set", "executor.kind=ray", "--set", "executor.workers=2", *options)

    assert code == 0
    assert f"  workers   {workers}" in out


def test_without_the_package_ray_nothing_is_begun_and_the_command_that_installs_it_is_told(
    nasflow: Call, finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("nasflow_cli.execute.cluster.importlib.util.find_spec", lambda name: None)

    code, out, err = nasflow("search", finished[0], "--run-dir", tmp_path / "run", "--set", "executor.kind=ray")

    assert (code, out) == (4, "")
    assert "pip install 'nasflow[cluster]'" in err
    assert not (tmp_path / "run").exists()


def test_the_plan_counts_the_repeats_of_the_best(nasflow: Call, finished: tuple[Path, Path]) -> None:
    plain = json.loads(nasflow("check", finished[0], "--json")[1])
    options = ("--set", "search.confirm.top=2", "--set", "search.confirm.repeats=4")

    plan = json.loads(nasflow("check", finished[0], "--json", *options)[1])

    assert (plain["confirm"]["networks"], plan["confirm"]) == (0, {"networks": 2, "repeats": 4, "budget": 3})
    assert plan["trials"] == plain["trials"] + 2 * 4
    assert plan["epochs"] == plain["epochs"] + 2 * 4 * 3
    assert (
        "confirm  the best 2 again from scratch to epoch 3, 4 times each" in nasflow("check", finished[0], *options)[1]
    )


def test_check_says_how_many_workers_share_each_device(
    nasflow: Call, finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    options = ("--set", "executor.children_per_device=2", "--set", "executor.workers=3")

    assert json.loads(nasflow("check", finished[0], *options, "--json")[1])["children_of_devices"] == {"3": 2, "1": 1}
    lines = nasflow("check", finished[0], *options)[1].splitlines()
    assert [line.strip() for line in lines if " share " in line] == ["2 share cuda:3, each an equal part of its memory"]


def test_help_and_leaderboard_import_neither_torch_nor_dgl(finished: tuple[Path, Path]) -> None:
    program = (
        "import sys; sys.argv = ['nasflow', *sys.argv[1:]]\n"
        "from nasflow_cli.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'dgl', 'hpbandster', 'ConfigSpace', 'scipy', 'pandas', 'ray', 'datasets'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for arguments in (
        ["--help"],
        ["leaderboard", str(finished[1])],
        ["status", str(finished[1])],
        ["show", str(finished[1])],
    ):
        subprocess.run([sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_a_reader_that_leaves_early_is_no_error(finished: tuple[Path, Path]) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "nasflow_cli", "leaderboard", str(finished[1]), "--json"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)

    assert process.returncode == 0
    assert process.stderr == ""


def test_version_is_printed(nasflow: Call) -> None:
    code, out, _ = nasflow("--version")

    assert code == 0
    assert out.startswith("nasflow 0.")
