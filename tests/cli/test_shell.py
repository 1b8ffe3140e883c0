"""A search in shell scripts as users write them: nohup, pipes, closed streams, batch jobs, a second copy by mistake."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Called
from tiny import timeless, write_config

LOCAL = {"kind": "local", "workers": 1}

STUCK = """
import time
from pathlib import Path
from nasflow_cli.core.registry import EVALUATORS

@EVALUATORS.register("stuck", data=False)
def stuck(config, run, device):
    def evaluate(assignment, should_stop):
        Path("begun").touch()
        while True:
            time.sleep(60)
    return evaluate
"""
"""An evaluator that never looks up, as one epoch of a large network does not for minutes."""

WAIT_UNTIL = """
wait_until() { i=0; until eval "$1"; do sleep 0.05; i=$((i + 1)); [ $i -lt 2400 ] || exit 99; done; }
"""


def script(text: str, cwd: Path) -> Called:
    """Run a bash script in which `$nasflow` is the command line; what it left running is ended."""
    process = subprocess.Popen(
        ["bash", "-c", f'nasflow="{sys.executable} -m nasflow_cli"\n{WAIT_UNTIL}{text}'],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(cwd), *filter(None, [os.environ.get("PYTHONPATH")])])},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=240)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return Called(process.returncode, out, err)


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A search under nohup whose trial never comes to a safe point, and what a script saw of it, by name."""
    folder = tmp_path_factory.mktemp("stuck")
    (folder / "stuck.py").write_text(STUCK)
    config = write_config(folder / "tiny.yaml", executor=LOCAL)
    text = config.read_text().replace("evaluator: train", "")
    config.write_text(text + "plugins: [stuck]\nevaluator: stuck\n")
    done = script(
        """
        MARK=nasflow-$$ nohup $nasflow search tiny.yaml --run-dir run --set executor.grace_s=0.1 > out.txt 2> err.txt &
        wait_until '[ -e begun ]'
        kill -HUP $!
        $nasflow status run --json > status.json
        $nasflow resume run > second_out.txt 2> second_err.txt; echo $? > second.txt
        kill -TERM $!
        wait $!; echo $? > first.txt
        wait_until '! grep -qz "^MARK=nasflow-$$" /proc/[0-9]*/environ 2> /dev/null'
        """,
        folder,
    )
    assert done.code == 0, done.err
    return folder, {path.stem: path.read_text() for path in folder.glob("*.txt")}


def test_under_nohup_a_search_outlives_its_terminal(stuck: tuple[Path, dict[str, str]]) -> None:
    folder, _ = stuck

    assert json.loads((folder / "status.json").read_text())["state"] == "running"


def test_a_second_copy_on_the_same_run_is_refused_and_says_who_works_on_it(stuck: tuple[Path, dict[str, str]]) -> None:
    _, said = stuck

    assert said["second"].strip() == "5"
    assert said["second_out"] == ""
    assert "only one nasflow may write to a run directory" in said["second_err"]


def test_sigterm_ends_a_trial_that_finds_no_safe_point_within_the_grace_period(
    stuck: tuple[Path, dict[str, str]],
) -> None:
    folder, said = stuck

    assert said["first"].strip() == "143"
    assert said["out"] == "run\n"
    assert "nasflow resume run" in said["err"]
    assert [event["event"] for event in timeless(folder / "run")] == ["run", "asked"]


def test_a_second_signal_does_not_wait_for_the_grace_period_nor_change_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    config = write_config(tmp_path / "tiny.yaml", executor=LOCAL)
    config.write_text(config.read_text() + "plugins: [stuck]\nevaluator: stuck\n")
    done = script(
        """
        $nasflow search tiny.yaml --run-dir run --set executor.grace_s=100000 2> err.txt &
        wait_until '[ -e begun ]'
        kill -TERM $!
        wait_until 'grep -q ^stopping err.txt'
        kill -USR1 $!
        wait $!
        """,
        tmp_path,
    )

    assert done.code == 143, done.err
    assert done.out == "run\n"
    said = (tmp_path / "err.txt").read_text().splitlines()
    assert said[-1] == "left at once, what is recorded is kept; go on with: nasflow resume run"


def test_a_search_whose_terminal_is_closed_winds_down_and_exits_with_its_code(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", executor=LOCAL)
    search = [sys.executable, "-m", "nasflow_cli", "search", str(config), "--run-dir", str(tmp_path / "run")]
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, search)
    shown = b""
    while b"1/16 trials" not in shown:
        shown += os.read(terminal, 10_000)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    told = [event for event in timeless(tmp_path / "run") if event["event"] == "told"]
    assert told
    assert [event["error"] for event in told] == [None] * len(told)
    assert (tmp_path / "run" / "leaderboard.json").exists()


def test_with_its_streams_gone_a_search_goes_on_and_keeps_its_exit_code(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml")
    done = script(
        f"""
        $nasflow search {config} --run-dir run --set search.time_limit_s=0.001 2>&1 | head -1
        echo ${{PIPESTATUS[0]}}
        $nasflow resume run --set search.time_limit_s=null >&- 2>&- <&-
        echo $?
        """,
        tmp_path,
    )

    assert done.out.splitlines() == [f"reading {config}", "75", "0"]
    assert timeless(tmp_path / "run")[-1]["event"] == "finished"


def test_a_batch_job_that_is_preempted_and_hung_up_comes_to_its_end(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", executor=LOCAL, search={"trials": 8})
    (tmp_path / "job.sh").write_text(f'exec "{sys.executable}" -m nasflow_cli search {config} --run-dir run\n')
    # The whole process group gets the signal, as from a batch system; a job that ends with 75 is queued again.
    done = script(
        """
        set -m
        bash job.sh 2> err.txt & wait_until 'grep -q "^\\[1/" err.txt'; kill -USR1 -- -$!; wait $!; echo $?
        bash job.sh 2> err.txt & wait_until 'grep -q "^\\[" err.txt'; kill -HUP -- -$!; wait $!; echo $?
        bash job.sh 2> err.txt; echo $?
        """,
        tmp_path,
    )

    assert [line for line in done.out.splitlines() if line.isdecimal()] == ["75", "129", "0"], done.err
    recorded = timeless(tmp_path / "run")
    assert [event["error"] for event in recorded if event["event"] == "told"] == [None] * 8
    assert recorded[-1]["event"] == "finished"
