"""Real faults in this process: a plug-in in trouble, and a file system that is full or read-only."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runs"))

from child import Child
from tiny import run, write_config

from nasflow_cli.core.registry import OPERATIONS

Trouble = Any


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    """Networks of this size are slower on several threads."""
    torch.set_num_threads(1)


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    """What the operation `troubled` meets; the operation is gone after the test."""
    monkeypatch.setattr(OPERATIONS, "_entries", dict(OPERATIONS._entries))
    monkeypatch.delitem(sys.modules, "faulty_operation", raising=False)
    return importlib.import_module("faulty_operation").TROUBLE


@pytest.fixture
def child(tmp_path: Path, trouble: Trouble) -> Child:
    """An evaluator and trials of one architecture, with the operation `troubled` in it."""
    return Child(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished tiny search of one bracket: (configuration, run directory)."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_config(folder / "tiny.yaml", search={"trials": 4})
    assert run(config, folder / "run").finished
    return config, folder / "run"


class SmallDisk:
    """A file system of its own, of so many KiB, at `path`."""

    def __init__(self, path: Path, size_kib: int) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs")

    def change(self, option: str) -> None:
        """Mount it again with another option."""
        self._mount("-o", f"remount,{option}")

    def close(self, folder: Path) -> None:
        """Make a folder read-only, though files outside it are open for writing."""
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(self.path)], check=True, capture_output=True)

    def end(self) -> None:
        subprocess.run(["umount", "-R", "-l", self.path], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Makes a file system of a size; skips where this user may not."""
    made: list[SmallDisk] = []

    def make(size_kib: int) -> SmallDisk:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a file system")
        try:
            made.append(SmallDisk(tmp_path / "disk", size_kib))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no file system can be mounted here: {error}")
        return made[0]

    yield make
    for disk in made:
        disk.end()
