from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nasflow_cli.core.errors import ConfigError, RunDirectoryError
from nasflow_cli.core.trial import Trial
from nasflow_cli.store.journal import Journal, JournalHeader, header_of, history_of, read_events

HEADER = JournalHeader(nasflow_version="1.2", config_sha256="ab", started=5.0)
EVENTS = [HEADER.to_json(), {"event": "asked", "name": "é\u2028\n"}, {"event": "told", "score": 1e-9, "none": None}]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    with Journal.resume(path)[0] as writer:
        for event in EVENTS:
            writer.append(event)
    return path


def asked(trial: Trial, **changes: object) -> dict[str, object]:
    return {"event": "asked", **trial.to_json(), **changes}


def test_what_was_appended_is_read_back(journal: Path) -> None:
    assert read_events(journal) == EVENTS


def test_each_event_is_one_compact_line_in_the_order_of_its_fields(journal: Path) -> None:
    lines = journal.read_bytes().split(b"\n")
    assert lines[2:] == [b'{"event":"told","score":1e-09,"none":null}', b""]


def test_a_journal_opened_again_is_appended_to(journal: Path) -> None:
    with Journal.resume(journal)[0] as writer:
        writer.append({"event": "finished"})
    assert [event["event"] for event in read_events(journal)] == ["run", "asked", "told", "finished"]


def test_a_journal_not_yet_begun_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "journal.jsonl") == []


def test_an_event_is_synced_before_append_returns(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    with Journal.resume(journal)[0] as writer:
        monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
        writer.append({"event": "finished"})
    assert synced == [journal.stat().st_size]


def test_appended_events_survive_a_kill_of_the_writer(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from nasflow_cli.store.journal import Journal\n"
        "journal = Journal.resume(pathlib.Path(sys.argv[1]))[0]\n"
        "journal.append({'event': 'a'}); journal.append({'event': 'b'}); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, tmp_path / "journal.jsonl"], check=False)
    assert ended.returncode == -9
    assert read_events(tmp_path / "journal.jsonl") == [{"event": "a"}, {"event": "b"}]


def test_a_reader_skips_a_torn_last_line_wherever_it_tore_and_leaves_it(journal: Path) -> None:
    data = journal.read_bytes()
    for length in range(len(data)):
        journal.write_bytes(data[:length])
        assert read_events(journal) == EVENTS[: data[:length].count(b"\n")]
        assert journal.read_bytes() == data[:length]


def test_the_writer_cuts_a_torn_last_line_wherever_it_tore(journal: Path) -> None:
    data = journal.read_bytes()
    for length in range(len(data)):
        journal.write_bytes(data[:length])
        with Journal.resume(journal)[0] as writer:
            writer.append({"event": "finished"})
        assert read_events(journal) == [*EVENTS[: data[:length].count(b"\n")], {"event": "finished"}]


def test_a_last_line_that_is_whole_but_for_its_newline_is_torn(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:-1])
    Journal.resume(journal)[0].close()
    assert read_events(journal) == EVENTS[:2]


BAD_LINES = {
    "cut short": b'{"event":"told"',
    "empty": b"",
    "a list": b'["event"]',
    "without a name": b'{"trial":1}',
    "a name that is no text": b'{"event":1}',
    "NUL bytes": b"\x00\x00\x00\x00",
    "UTF-16": '{"event":"told"}'.encode("utf-16-le"),
    "not UTF-8": b'{"event":"\xff"}',
    "not a JSON number": b'{"event":"told","score":NaN}',
    "two events": b'{"event":"told"}\r{"event":"told"}',
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("line", [1, 2, 4], ids=["first", "inside", "last"])
def test_a_bad_line_is_an_error_that_names_it(journal: Path, bad: bytes, line: int) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[: line - 1], bad + b"\n", *lines[line - 1 :]]))
    with pytest.raises(RunDirectoryError, match=rf"journal\.jsonl:{line}: .*head -n {line - 1}") as caught:
        read_events(journal)
    assert caught.value.exit_code == 5


def test_the_writer_refuses_a_bad_line_and_leaves_the_file(journal: Path) -> None:
    damaged = b"bad\n" + journal.read_bytes() + b'{"torn'
    journal.write_bytes(damaged)
    with pytest.raises(RunDirectoryError, match=r"journal\.jsonl:1: "):
        Journal.resume(journal)[0]
    assert journal.read_bytes() == damaged


def test_the_command_in_the_message_mends_the_journal(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes() + b"bad\n")
    with pytest.raises(RunDirectoryError) as caught:
        read_events(journal)
    subprocess.run(str(caught.value).split("`")[1], shell=True, check=True)
    assert read_events(journal) == EVENTS


def test_a_failed_append_leaves_what_was_there_and_says_how_to_go_on(journal: Path, file_size_limit) -> None:
    before = journal.read_bytes()
    writer = Journal.resume(journal)[0]
    limit = file_size_limit(len(before) + 5)
    with limit, pytest.raises(RunDirectoryError, match=r"the disk is full.*nasflow resume"):
        writer.append({"event": "finished"})
    assert journal.read_bytes() == before


def test_after_a_failed_append_the_journal_takes_no_more(journal: Path, file_size_limit) -> None:
    writer = Journal.resume(journal)[0]
    with file_size_limit(1), pytest.raises(RunDirectoryError):
        writer.append({"event": "finished"})
    with pytest.raises(ValueError, match="is closed"):
        writer.append({"event": "finished"})


@pytest.mark.parametrize("event", [{"trial": 1}, {"event": "told", "score": float("nan")}])
def test_an_impossible_event_is_refused_and_nothing_is_written(journal: Path, event: dict[str, object]) -> None:
    before = journal.read_bytes()
    with Journal.resume(journal)[0] as writer, pytest.raises(ValueError, match=r"event|JSON"):
        writer.append(event)
    assert journal.read_bytes() == before


def test_an_error_text_with_a_lone_surrogate_comes_back_as_it_was(journal: Path) -> None:
    event = {"event": "told", "error": "no such file: 'caf\udce9'"}
    with Journal.resume(journal)[0] as writer:
        writer.append(event)
    assert read_events(journal)[-1] == event


def test_a_journal_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*journal\.jsonl"):
        Journal.resume(tmp_path / "absent" / "journal.jsonl")[0]


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="cannot read"):
        read_events(tmp_path)


def test_events_fold_into_the_history_that_they_tell(trial_of, result_of, tmp_path: Path) -> None:
    trials = [trial_of(0), trial_of(1, parent=0, budget=3)]
    results = [result_of(1, 0.9, metrics={"params": 10.0}), result_of(0, None)]
    told = [{"event": "told", **result.to_json()} for result in results]
    events = [HEADER.to_json(), *map(asked, trials), *told, {"event": "finished", "reason": "budget"}]
    history = history_of(json.loads(json.dumps(events)), tmp_path)
    assert (history.trials, history.events) == (trials, [*trials, *results])


def test_an_empty_journal_folds_into_an_empty_history(tmp_path: Path) -> None:
    assert history_of([], tmp_path).events == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"event": "sang"}, "unknown event 'sang'"),
        ({"event": "run"}, "a second 'run' event"),
        ({"event": "finished"}, "'reason' is missing"),
        ({"event": "told"}, "a second result for trial 0"),
        ({"trial": 5}, "trial 5 asked, but 1 is next"),
        ({"parent": -1}, "not -1"),
        ({"slot": [1, 2]}, "unpack"),
        ({"budget": "3"}, "whole number, not '3'"),
        ({"structure": []}, "items"),
        ({"proposal": {"mood": "good"}}, "mood"),
    ],
)
def test_an_event_that_does_not_fit_is_an_error_that_names_its_line(trial_of, result_of, change, why: str) -> None:
    told = {"event": "told", **result_of(0).to_json()}
    bad = {**asked(trial_of(1)), **(told if change == {"event": "told"} else {}), **change}
    with pytest.raises(RunDirectoryError, match=rf"run/j:4: .*{why}"):
        history_of([HEADER.to_json(), asked(trial_of(0)), told, bad], Path("run/j"))


def test_a_missing_field_is_named(trial_of) -> None:
    event = asked(trial_of(0))
    del event["seed"]
    with pytest.raises(RunDirectoryError, match=r"j:2: .*'seed' is missing"):
        history_of([HEADER.to_json(), event], Path("j"))


def test_a_journal_begins_with_its_header(trial_of) -> None:
    with pytest.raises(RunDirectoryError, match=r"j:1: .*the first event is 'run', not 'asked'"):
        history_of([asked(trial_of(0))], Path("j"))


def test_the_header_is_read_back() -> None:
    assert header_of([json.loads(json.dumps(HEADER.to_json()))], Path("j")) == HEADER


def test_a_journal_without_lines_has_no_header() -> None:
    assert header_of([], Path("j")) is None


def test_a_journal_of_a_newer_nasflow_is_refused_before_its_events_are_read() -> None:
    newer = {**HEADER.to_json(), "schema_version": 2, "nasflow_version": "9.0"}
    with pytest.raises(RunDirectoryError, match=r"j:1: made by a newer nasflow \(9\.0.*upgrade nasflow"):
        history_of([newer, {"event": "something new"}], Path("j"))


@pytest.mark.parametrize(
    "change", [{"schema_version": 0}, {"schema_version": "1"}, {"started": None}, {"nasflow_version": 1}]
)
def test_a_header_with_wrong_fields_names_the_first_line(change: dict[str, object]) -> None:
    with pytest.raises(RunDirectoryError, match="j:1: the journal is damaged here"):
        history_of([{**HEADER.to_json(), **change}], Path("j"))
