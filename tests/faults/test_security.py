"""Nothing that is read can run code or lead out of the run directory, and files are as open as the umask says."""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import CrashError, run, timeless, write_config

import nasflow_cli
from nasflow_cli import assemble
from nasflow_cli.core.errors import ConfigError, DataError, RunDirectoryError
from nasflow_cli.execute.log import open_log
from nasflow_cli.export import export_best
from nasflow_cli.store.files import open_lines, remove, write_whole
from nasflow_cli.store.journal import Journal, history_of, read_events
from nasflow_cli.store.lock import RunLock
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.table_file import read_columns

Calls = list[tuple[str, str, ast.Call]]

PACKAGE = Path(nasflow_cli.__file__).parent


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, finished: tuple[Path, Path]) -> Path:
    """A run directory of a search that was killed after two of its four trials."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(CrashError):
        run(finished[0], folder / "run", crash_after=2)
    return folder / "run"


@pytest.fixture
def copy(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LINKS = {
    **{name: name for name in ("journal.jsonl", "run.lock", "config.resolved.yaml", "environment.json")},
    **{name: name for name in ("leaderboard.csv", "leaderboard.json", "report.html", "export", "hpbandster")},
    "all trials": "trials",
    "a trial": "trials/1",
    "a trial to come": "trials/2",
    "a checkpoint": "trials/0/checkpoint.safetensors",
    "a log to come": "trials/2/log.txt",
    "metrics": "trials/0/metrics.jsonl",
    "an analysis file": "hpbandster/results.json",
    "a link to nothing": "trials/3",
    "a final training": "final/trial0-epochs3",
    "a checkpoint of a final training": "final/trial0-epochs3/seed0/checkpoint.safetensors",
}


@pytest.mark.parametrize("name", LINKS)
def test_a_link_that_leads_out_of_a_run_directory_is_refused_and_nothing_there_is_touched(
    finished: tuple[Path, Path], copy: Path, tmp_path: Path, name: str
) -> None:
    link, outside = copy / LINKS[name], tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    if link.exists():
        link.rename(outside / "moved")
    elif name != "a link to nothing":
        (outside / "moved").write_text("mine")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / "moved")
    before = contents(outside)

    with pytest.raises(RunDirectoryError) as caught:
        run(finished[0], copy)

    assert str(caught.value).startswith(f"{link} is a symbolic link (to {outside / 'moved'})")
    assert contents(outside) == before


def test_a_run_directory_may_itself_be_a_link(finished: tuple[Path, Path], copy: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("run")

    assert run(finished[0], tmp_path / "latest").finished

    assert timeless(copy) == timeless(finished[1])


def test_an_export_does_not_follow_a_link_in_the_run_directory(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(finished[1], tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (copy / "export").symlink_to(tmp_path / "outside")

    with pytest.raises(RunDirectoryError, match="export is a symbolic link"):
        export_best(RunDirectory(copy), None, lambda line: None)

    assert os.listdir(tmp_path / "outside") == []


def lock(path: Path) -> None:
    with RunLock(path):
        pass


@pytest.mark.parametrize("write", [lock, Journal.resume, open_lines], ids=["lock", "journal", "lines"])
def test_a_file_that_is_written_in_place_is_not_one_behind_a_link(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    (tmp_path / "mine").write_text('{"event":"run"}\nmine')
    (tmp_path / "link").symlink_to("mine")

    with pytest.raises(RunDirectoryError, match="is a symbolic link"):
        write(tmp_path / "link")

    assert (tmp_path / "mine").read_text() == '{"event":"run"}\nmine'


def test_a_link_in_the_place_of_a_file_is_replaced_or_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for name in ("replaced", "removed"):
        (tmp_path / name).symlink_to("mine")

    write_whole(tmp_path / "replaced", "new")
    remove(tmp_path / "removed")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine": "mine", "replaced": "new"}
    assert not (tmp_path / "replaced").is_symlink()


@pytest.mark.parametrize(
    "change",
    [
        *({"trial": number} for number in ("../../outside", "1", 1.0, True, None)),
        *({"parent": number} for number in ("../0", 0.0, False, -1)),
        *({"budget": number} for number in ("3", 1.0, True)),
        {"seed": "0"},
    ],
    ids=str,
)
def test_a_journal_whose_numbers_are_none_is_refused_with_the_line(stopped: Path, change: dict[str, Any]) -> None:
    path = RunDirectory(stopped).journal
    header, *others = read_events(path)
    asked = [event for event in others if event["event"] == "asked"]

    with pytest.raises(RunDirectoryError, match=r"journal\.jsonl:3: the journal is damaged here"):
        history_of([header, asked[0], {**asked[1], **change}], path)


@pytest.mark.parametrize("number", ["../0", 0.0, False, None])
def test_a_result_of_what_is_no_trial_is_refused_with_the_line(stopped: Path, number: object) -> None:
    path = RunDirectory(stopped).journal
    header, *others = read_events(path)
    told = next(event for event in others if event["event"] == "told")

    with pytest.raises(RunDirectoryError, match=r"journal\.jsonl:3: the journal is damaged here"):
        history_of([header, next(e for e in others if e["event"] == "asked"), {**told, "trial": number}], path)


def test_a_tag_in_the_configuration_of_a_run_that_came_from_elsewhere_runs_nothing(copy: Path, tmp_path: Path) -> None:
    resolved = copy / "config.resolved.yaml"
    text = resolved.read_text()
    resolved.write_text(text.replace("seed: 0", f"seed: !!python/object/apply:os.mkdir [{tmp_path}/proof]", 1))

    with pytest.raises(ConfigError, match=r"config\.resolved\.yaml:\d+:7: the tag !!python/object/apply:os\.mkdir"):
        assemble.load(resolved, [])

    assert not (tmp_path / "proof").exists()


def test_a_table_elsewhere_is_read_and_nothing_is_written_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here/experiment", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "elsewhere" / "results.csv").write_text("x,y\n1,2\n")
    monkeypatch.chdir(tmp_path / "here" / "experiment")
    before = (tmp_path / "elsewhere" / "results.csv").stat().st_mtime_ns

    found = read_columns("../../elsewhere/results.csv", ["y"])

    assert dict(found.cells) == {"y": ("2",)}
    assert contents(tmp_path) == {"elsewhere/results.csv": b"x,y\n1,2\n"}
    assert (tmp_path / "elsewhere" / "results.csv").stat().st_mtime_ns == before


def test_what_is_no_plain_file_is_not_read_as_a_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.csv").symlink_to("/dev/zero")

    for name in ("pipe.csv", "device.csv"):
        with pytest.raises(DataError, match="neither a file nor a folder"):
            read_columns(str(tmp_path / name), ["y"])


def modes(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            yield path, stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("umask", "for_files", "for_folders"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)]
)
def test_all_that_a_search_writes_is_as_open_as_the_umask_says(
    tmp_path: Path, umask: int, for_files: int, for_folders: int
) -> None:
    config = write_config(tmp_path / "tiny.yaml", runs=str(tmp_path / "runs"), search={"trials": 4})
    before = os.umask(umask)
    try:
        experiment = assemble.check(assemble.load(config, []))
        place = assemble.new_run(experiment, config, None)
        run(config, place.root)
    finally:
        os.umask(before)

    found = dict(modes(tmp_path / "runs"))
    assert {path.name for path in found} >= {"journal.jsonl", "run.lock", "metrics.jsonl", "checkpoint.safetensors"}
    assert {mode for path, mode in found.items() if path.is_file()} == {for_files}
    assert {mode for path, mode in found.items() if path.is_dir()} == {for_folders}


def test_without_a_umask_no_file_may_be_written_by_everybody_not_even_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    replace = os.replace

    def look_and_replace(source: Path, target: Path) -> None:
        seen.append(stat.S_IMODE(source.stat().st_mode))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look_and_replace)
    before = os.umask(0)
    try:
        write_whole(tmp_path / "whole", "x")
        open_lines(tmp_path / "lines").close()
        Journal.resume(tmp_path / "journal")[0].close()
        lock(tmp_path / "lock")
        os.close(open_log(tmp_path / "log"))
    finally:
        os.umask(before)

    assert seen == [0o664]
    assert {mode for path, mode in modes(tmp_path) if path.is_file()} == {0o664}


@pytest.fixture(scope="module")
def calls() -> Calls:
    """Every call in the package: (module, what is called, the call)."""
    return [
        (str(path.relative_to(PACKAGE)), ast.unparse(node.func), node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def test_plugins_are_the_only_names_from_an_experiment_that_are_imported(calls: Calls) -> None:
    where = {path for path, called, _ in calls if called.endswith(("import_module", "__import__"))}

    # The second imports what the driver names to its workers, which is nasflow's own, and the third what classes of
    # modules that are loaded already refer to.
    assert where == {"core/registry.py", "execute/boundary.py", "nets/definitions.py"}


def test_nothing_else_turns_text_or_files_into_code(calls: Calls) -> None:
    forbidden = {
        *("eval", "exec", "compile", "os.system", "os.popen", "runpy.run_path", "torch.load", "joblib.load"),
        *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "pickle.load", "pickle.loads", "marshal.loads"),
    }
    unpacking = (".extractall", ".extract", ".unpack_archive", ".recv")
    for path, called, _ in calls:
        assert called not in forbidden, path
        assert not called.endswith(unpacking), path


def test_other_programs_are_started_in_three_places_that_run_no_words_of_an_experiment(calls: Calls) -> None:
    where = {path for path, called, _ in calls if called.startswith("subprocess.")}

    assert where == {"environment.py", "nets/fresh_process.py", "draw/graphviz.py"}


def test_numpy_reads_no_pickles(calls: Calls) -> None:
    loads = [(path, call) for path, called, call in calls if called in {"np.load", "numpy.load"}]

    assert loads
    for path, call in loads:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("allow_pickle") == "False", path


def test_the_reference_says_that_plugins_run_code_and_nothing_else_does() -> None:
    schema = json.loads((PACKAGE.parent / "docs" / "experiment.schema.json").read_text())

    assert "runs their code" in schema["properties"]["plugins"]["description"]
    assert "nothing else" in schema["properties"]["plugins"]["description"]
