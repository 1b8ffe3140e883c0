"""The scripts that a new user runs first, and the documents that are written from the code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def preflight(python: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the check with only what is in one folder on the PATH."""
    shell = shutil.which("sh")
    assert shell is not None
    return subprocess.run(
        [shell, str(ROOT / "scripts" / "preflight.sh"), python],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder that stands for the PATH of a machine: a Python of a version, and a compiler."""
    for name in ("cc", "gcc", "clang"):
        (tmp_path / name).symlink_to("/bin/true")
    return tmp_path


def old_python(folder: Path) -> str:
    program = folder / "python-old"
    program.write_text('#!/bin/sh\ncase "$1" in --version) echo "Python 3.9.1";; -c) exit 1;; esac\n')
    program.chmod(0o755)
    return str(program)


def test_a_machine_that_has_everything_passes(machine: Path) -> None:
    done = preflight(sys.executable, machine)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_missing_compiler_is_named_with_the_command_that_brings_it(machine: Path) -> None:
    for name in ("cc", "gcc", "clang"):
        (machine / name).unlink()

    done = preflight(sys.executable, machine)

    assert done.returncode == 1
    assert "no C compiler" in done.stderr
    assert "apt-get install build-essential" in done.stderr


def test_a_missing_python_is_named(machine: Path) -> None:
    done = preflight("python-that-is-not-there", machine)

    assert done.returncode == 1
    assert "Install Python 3.10, 3.11 or 3.12" in done.stderr


def test_a_python_of_another_version_is_refused(machine: Path) -> None:
    done = preflight(old_python(machine), machine)

    assert done.returncode == 1
    assert "Python 3.9.1 will not do" in done.stderr


def test_the_configuration_reference_is_what_the_models_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "write_reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr


def test_the_constraints_pin_torch_for_every_python() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert "torch==2.13.0" in lines


def test_the_constraints_pin_the_peers() -> None:
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}

    assert {"dehb", "optuna", "smac"} <= pinned


@pytest.mark.parametrize("name", ["digits", "nb201", "cifar10", "cifar10-small"])
def test_a_config_that_ships_is_valid(name: str) -> None:
    data = ROOT.parent / "shared" / "data" / "cifar10"
    reads_cifar = name.startswith("cifar10")
    if reads_cifar and not data.is_dir():
        pytest.skip("the CIFAR-10 images are not beside the checkout")
    arguments = [] if not reads_cifar else ["--set", f"data.path={data}", "--set", "data.train_limit=500"]
    program = [sys.executable, "-m", "nasflow_cli", "check", f"configs/{name}.yaml", *arguments]
    if reads_cifar:
        program += ["--set", "data.test_limit=100"]

    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})

    assert done.returncode == 0, done.stderr
    assert "the experiment is valid" in done.stdout
