"""How scripts/bench_scale.py waits for a journal that a search writes."""

from __future__ import annotations

from pathlib import Path

from bench_scale import Lines


def test_a_file_that_is_not_there_yet_has_no_lines(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "journal.jsonl")

    assert lines.look() == 0
    (tmp_path / "journal.jsonl").write_text("a\n")
    assert lines.look() == 1


def test_a_line_counts_once_it_is_whole_also_when_its_beginning_was_cut(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    lines = Lines(journal)

    journal.write_text("a\nthe beginning of")
    assert lines.look() == 1
    journal.write_text("a\nthe beginning of b\n")
    assert lines.look() == 2
    journal.write_text("a\nthe beginning of b\nthe beginning of")
    assert lines.look() == 2
    journal.write_text("a\nthe beginning of b\nc\nd\n")
    assert lines.look() == 4


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    lines = Lines(journal)
    journal.write_text("a\nb\n")
    assert lines.look() == 2

    journal.write_text("\n\n\n\nc\n")

    assert lines.look() == 3
