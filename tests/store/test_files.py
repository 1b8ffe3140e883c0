from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nasflow_cli.core.errors import ConfigError, RunDirectoryError
from nasflow_cli.store.files import cannot_write, make_directory, remove, remove_leftovers, write_whole


def test_text_is_written_as_utf_8_over_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("much longer old content")
    write_whole(target, "nä\n")
    assert target.read_bytes() == b"n\xc3\xa4\n"


def test_a_written_file_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"\x00\xff")
    assert os.listdir(tmp_path) == ["file"]


def test_text_with_a_lone_surrogate_is_written_escaped(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "name \udcff")
    assert (tmp_path / "file").read_bytes() == b"name \\udcff"


def test_the_umask_decides_the_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_content_is_synced_before_the_rename_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    fsync, seen = os.fsync, []

    def spy(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), target.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_whole(target, "x")
    assert seen == [(False, False), (True, True)]


def test_without_room_the_old_content_stays_and_the_message_says_how_to_go_on(tmp_path: Path, file_size_limit) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with file_size_limit(1000), pytest.raises(RunDirectoryError, match=r"the disk is full.*nasflow resume"):
        write_whole(target, "new" * 1000)
    assert (target.read_text(), os.listdir(tmp_path)) == ("old", ["file"])


def test_what_a_killed_write_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from nasflow_cli.store import files\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "files.write_whole(pathlib.Path(sys.argv[1]), 'new')"
    )
    write_whole(tmp_path / "file", "old")
    subprocess.run([sys.executable, "-c", program, tmp_path / "file"], check=False)
    assert len(os.listdir(tmp_path)) == 2

    remove_leftovers(tmp_path)

    assert (os.listdir(tmp_path), (tmp_path / "file").read_text()) == (["file"], "old")


def test_a_full_disk_and_a_full_quota_are_both_no_room() -> None:
    errors = [cannot_write(Path("f"), OSError(code, os.strerror(code))) for code in (errno.ENOSPC, errno.EDQUOT)]
    assert [error.exit_code for error in errors] == [5, 5]
    # Whatever the command was: a search, a training, an export, a file that was named.
    assert all("run the command again (`nasflow resume` goes on with a search)" in str(error) for error in errors)


@pytest.mark.parametrize("place", ["absent/file", "plain/file", "folder"])
def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=rf"cannot write .*{place}: ") as caught:
        write_whole(tmp_path / place, "x")
    assert caught.value.exit_code == 2
    assert sorted(os.listdir(tmp_path)) == ["folder", "plain"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_write_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        write_whole(tmp_path / "file", "x")


def test_a_directory_below_a_plain_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        make_directory(tmp_path / "plain" / "below")


def test_a_file_that_cannot_be_removed_is_named_and_one_that_is_not_there_is_fine(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    remove(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"cannot write .*plain/below: Not a directory"):
        remove(tmp_path / "plain" / "below")
