"""What a run was made with: versions, machine, devices and commit. Changes nothing, and refuses nothing."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import nasflow_cli
from nasflow_cli.execute.devices import usable_cores
from nasflow_cli.train.trainer import computes_in_bfloat16


def environment() -> dict[str, Any]:
    """Versions, machine, devices and commit, for the record."""
    packages = ("torch", "dgl", "ConfigSpace", "hpbandster", "numpy", "pydantic")
    return {
        "schema_version": 1,
        "nasflow": nasflow_cli.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        # Whether images are trained in bfloat16 on the CPU (`training.precision: auto`).
        "cpu_bfloat16": computes_in_bfloat16(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in packages},
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    try:
        command = ["git", "rev-parse", "HEAD"]  # found on the PATH, as a user's shell would
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
