"""A search over a table by the command line: NAS-Bench-201 as it ships, and a small table with holes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from small_table import HEADER, rows, write

from nasflow_cli.execute.protocol import Outcome
from nasflow_cli.search import Search
from nasflow_cli.store import new_run

NB201 = Path(__file__).resolve().parents[2] / "configs" / "nb201.yaml"
FAST = (
    *("--set", "search.trials=8", "--set", "search.budget.eta=3"),
    *("--set", "search.pool=8", "--set", "search.predictor.enabled=false"),
)

Call = Callable[..., tuple[int, str, str]]


class KilledError(BaseException):
    """Stands for a process that dies at this moment: nothing catches it."""


@pytest.fixture
def searched(nasflow: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run of a short search of NAS-Bench-201, from a folder that has no tables."""
    monkeypatch.chdir(tmp_path)
    code, out, err = nasflow("search", NB201, *FAST)
    assert code == 0, err
    return tmp_path / out.strip()


def test_nas_bench_201_is_searched_and_the_test_column_is_a_metric(nasflow: Call, searched: Path) -> None:
    code, out, _ = nasflow("leaderboard", searched, "--json")

    ranking = json.loads(out)["rows"]
    assert code == 0
    assert {row["phase"] for row in ranking} == {"operators"}
    assert [row["budget"] for row in ranking[:2]] == [200, 200]
    for row in ranking[:2]:
        assert 0.1 <= row["metrics"]["test_score"] <= 0.94374
        assert row["metrics"]["cost_s"] > 0
        assert row["params"] == row["metrics"]["params"]
        assert 0.1 <= row["score"] <= 0.91607


def test_a_run_over_a_table_is_read_as_any_other(nasflow: Call, searched: Path) -> None:
    shown, status, resumed = (
        nasflow("show", searched),
        nasflow("status", searched, "--json"),
        nasflow("resume", searched),
    )

    assert (shown[0], status[0], resumed[0]) == (0, 0, 0)
    assert "test_score" in shown[1]
    assert json.loads(status[1])["trials"] == {"planned": 8, "asked": 8, "scored": 8, "failed": 0, "pending": []}


def test_a_run_over_a_table_goes_on_from_anywhere(
    nasflow: Call, searched: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    code, _, err = nasflow("resume", searched, "--set", "search.trials=12")

    assert code == 0, err
    events = [json.loads(line) for line in (searched / "journal.jsonl").read_text().splitlines()]
    assert len([event for event in events if event["event"] == "told"]) == 12


def test_a_search_that_was_given_more_trials_and_killed_is_gone_on_with_by_a_plain_resume(
    nasflow: Call, searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Search._tell

    def dying(self: Search, outcome: Outcome) -> None:
        if len(self.history.results) == 10:
            raise KilledError
        tell(self, outcome)

    monkeypatch.setattr(Search, "_tell", dying)
    with pytest.raises(KilledError):
        nasflow("resume", searched, "--set", "search.trials=12")
    monkeypatch.setattr(Search, "_tell", tell)

    assert nasflow("resume", searched)[0] == 0

    assert json.loads(nasflow("status", searched, "--json")[1])["trials"]["scored"] == 12


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_run_directory_that_was_left_half_made_is_gone_on_with_by_the_same_command(
    nasflow: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    done: list[Path] = []
    write_whole = new_run.write_whole

    def dying(path: Path, data: bytes | str) -> None:
        if len(done) == written:
            (path.parent / ".nasflow-00.tmp").write_text("half")
            raise KilledError
        write_whole(path, data)
        done.append(path)

    command = ("search", NB201, *FAST, "--run-dir", tmp_path / "run")
    monkeypatch.setattr(new_run, "write_whole", dying)
    with pytest.raises(KilledError):
        nasflow(*command)
    monkeypatch.setattr(new_run, "write_whole", write_whole)

    code, _, err = nasflow(*command)

    assert code == 0, err
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert made >= {"config.yaml", "config.resolved.yaml", "environment.json", "journal.jsonl"}
    assert ".nasflow-00.tmp" not in made


def test_a_damaged_configuration_of_a_run_is_one_message_of_status(nasflow: Call, searched: Path) -> None:
    resolved = searched / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("  trials: 8\n", "  trials: many\n"))

    code, out, err = nasflow("status", searched)

    assert (code, out) == (2, "")
    assert f"{resolved}: search.trials: Input should be a valid integer" in err
    assert "Traceback" not in err


def test_a_run_over_a_table_has_nothing_to_export_and_nothing_to_train_on(nasflow: Call, searched: Path) -> None:
    (code, _, err), (train_code, _, train_err) = nasflow("export-best", searched), nasflow("train", searched)

    assert (code, train_code) == (2, 2)
    assert "nothing was trained" in err
    assert "there is no data to train on" in train_err
    assert not (searched / "export").exists()
    assert not (searched / "final").exists()


def test_the_check_shows_the_table_and_no_images(nasflow: Call) -> None:
    code, out, err = nasflow("check", NB201)

    assert code == 0, err
    assert "15625 rows, scores at 12, 200" in out
    assert "1 structures x 15.6k operator settings" in out
    assert "17 to epoch 12  ->  1 to epoch 200" in out
    assert "disk" not in out


def test_a_member_without_a_row_is_a_failed_trial_with_its_reason(
    nasflow: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, table=[HEADER, *rows()[:4]])

    code, out, err = nasflow("search", "e.yaml", *FAST)

    assert code == 0, err
    events = [json.loads(line) for line in (tmp_path / out.strip() / "journal.jsonl").read_text().splitlines()]
    told = [event for event in events if event["event"] == "told"]
    failed = [event for event in told if event["score"] is None]
    assert 0 < len(failed) < len(told)
    assert all("has no row with nodes=2" in event["error"] for event in failed)
