from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.store.run_directory import RunDirectory, create_run_directory, open_run

NOON = datetime(2024, 5, 6, 12, 0, 0, tzinfo=timezone.utc)


def a_run(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "journal.jsonl").write_text("")
    return path


def test_every_path_is_the_one_that_the_design_promises() -> None:
    run = RunDirectory(Path("r"))
    paths = [
        *(run.config, run.resolved_config, run.environment, run.journal, run.lock, run.leaderboard_csv),
        *(run.leaderboard_json, run.report, run.export, run.predictor, run.hpbandster),
        *(run.trial(12).log, run.trial(12).metrics, run.trial(12).checkpoint),
    ]
    assert [str(path.relative_to("r")) for path in paths] == [
        *("config.yaml", "config.resolved.yaml", "environment.json", "journal.jsonl", "run.lock", "leaderboard.csv"),
        *("leaderboard.json", "report.html", "export", "predictor", "hpbandster"),
        *("trials/12/log.txt", "trials/12/metrics.jsonl", "trials/12/checkpoint.safetensors"),
    ]


def test_a_new_run_is_named_after_the_experiment_and_the_utc_time(tmp_path: Path) -> None:
    in_tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    run = create_run_directory(tmp_path / "new" / "runs", "digits", in_tokyo)
    assert run.root == tmp_path / "new" / "runs" / "digits-20240506T120000Z"
    assert run.root.is_dir()


def test_runs_of_the_same_second_are_numbered(tmp_path: Path) -> None:
    names = [create_run_directory(tmp_path, "digits", NOON).root.name for _ in range(3)]
    assert names == ["digits-20240506T120000Z", "digits-20240506T120000Z-2", "digits-20240506T120000Z-3"]


def test_latest_is_a_relative_link_to_the_newest_run(tmp_path: Path) -> None:
    for name in ("first", "second"):
        run = create_run_directory(tmp_path, name, NOON)
    assert os.readlink(tmp_path / "latest") == run.root.name == "second-20240506T120000Z"


def test_making_a_run_leaves_only_the_run_and_the_link(tmp_path: Path) -> None:
    create_run_directory(tmp_path, "digits", NOON)
    assert sorted(os.listdir(tmp_path)) == ["digits-20240506T120000Z", "latest"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../up", "/abs", "a\\b", "a\nb", "a\x00b", "x" * 201]
)
def test_a_name_that_is_not_a_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        create_run_directory(tmp_path / "runs", name, NOON)
    assert not (tmp_path / "runs").exists()


def test_a_directory_of_the_users_called_latest_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(ConfigError, match="latest is in the way"):
        create_run_directory(tmp_path, "digits", NOON)
    assert os.listdir(tmp_path) == ["latest"]


def test_runs_below_a_plain_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        create_run_directory(tmp_path / "runs", "digits", NOON)


def test_a_time_without_a_zone_is_a_programming_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        create_run_directory(tmp_path, "digits", NOON.replace(tzinfo=None))


def test_a_run_opens_by_path(tmp_path: Path) -> None:
    path = a_run(tmp_path / "elsewhere")
    assert open_run(str(path), tmp_path / "runs") == RunDirectory(path)


def test_a_run_opens_by_its_name_inside_runs(tmp_path: Path) -> None:
    path = a_run(tmp_path / "runs" / "mine")
    assert open_run("mine", tmp_path / "runs") == RunDirectory(path)


def test_a_directory_here_that_is_no_run_does_not_hide_the_run_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    a_run(Path("runs/mine"))
    assert open_run("mine", Path("runs")) == RunDirectory(Path("runs/mine"))


def test_a_run_without_a_journal_opens_by_its_resolved_config(tmp_path: Path) -> None:
    (tmp_path / "config.resolved.yaml").write_text("")
    assert open_run(tmp_path, tmp_path / "runs") == RunDirectory(tmp_path)


@pytest.mark.parametrize("run", [None, "latest"])
def test_latest_opens_as_the_run_behind_the_link(tmp_path: Path, run: str | None) -> None:
    older = a_run(tmp_path / "older-20200101T000000Z")
    a_run(tmp_path / "newer-20240101T000000Z")
    (tmp_path / "latest").symlink_to(older.name)
    assert open_run(run, tmp_path) == RunDirectory(older)


@pytest.mark.parametrize("link", [None, "gone-20250101T000000Z", "empty-20260101T000000Z"])
def test_without_a_usable_link_the_newest_run_with_a_journal_opens(tmp_path: Path, link: str | None) -> None:
    (tmp_path / "empty-20260101T000000Z").mkdir()
    a_run(tmp_path / "begun-20270101T000000Z")
    (tmp_path / "begun-20270101T000000Z" / "journal.jsonl").rename(
        tmp_path / "begun-20270101T000000Z" / "config.resolved.yaml"
    )
    for name in ("z-20230101T000000Z", "a-20240101T000000Z-9", "a-20240101T000000Z-10", "a-20240101T000000Z", "other"):
        a_run(tmp_path / name)
    if link:
        (tmp_path / "latest").symlink_to(link)
    assert open_run(None, tmp_path).root.name == "a-20240101T000000Z-10"


def test_where_there_are_no_runs_the_message_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run in .*absent; start one with `nasflow search"):
        open_run(None, tmp_path / "absent")


def test_an_absent_run_is_refused_with_the_places_and_the_nearest_name(tmp_path: Path) -> None:
    a_run(tmp_path / "digits-20240506T120000Z")
    with pytest.raises(ConfigError) as caught:
        open_run("digit-20240506T120000Z", tmp_path)
    message = str(caught.value)
    assert f"looked for digit-20240506T120000Z and {tmp_path}/digit-20240506T120000Z" in message
    assert "did you mean 'digits-20240506T120000Z'?" in message


@pytest.mark.parametrize(
    ("run", "why"), [("folder", "is not a run directory"), ("plain", "is not a directory"), ("", "is not the name")]
)
def test_what_is_not_a_run_is_refused_with_the_reason(tmp_path: Path, run: str, why: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("")
    with pytest.raises(ConfigError, match=why):
        open_run(run, tmp_path)


def test_a_name_too_long_for_the_file_system_is_an_absent_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        open_run("x" * 5000, tmp_path)
