"""Runs an exported network where nothing of nasflow is: a fresh, isolated Python process that gets files only.

Refuses an answer from a process that imported nasflow, failed or took too long. The process ends with its parent.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nasflow_cli.core.errors import NasflowError

BATCH_SIZE = 256

_PROGRAM = """
import importlib.util, os, sys, threading

# The parent holds the other end of standard input; when it dies, so do we.
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
source, images, answer, batch_size = sys.argv[1:]
spec = importlib.util.spec_from_file_location("exported_network", source)
module = sys.modules["exported_network"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
network = module.load()
import torch
from safetensors.torch import load_file, save_file
with torch.inference_mode():
    logits = {
        name: torch.cat([network(batch).float() for batch in pixels.split(int(batch_size))])
        for name, pixels in load_file(images).items()
    }
nasflow = sorted(name for name in sys.modules if name.partition(".")[0] == "nasflow_cli")
if nasflow:
    sys.exit(f"the exported network needs nasflow: it imported {', '.join(nasflow)}")
save_file(logits, answer)
"""


def logits_in_fresh_process(source: Path, images: Mapping[str, Tensor], timeout_s: float) -> dict[str, Tensor]:
    """Load the network that `source` describes, beside its weights, and return its logits, float32 (n, classes).

    `images` are by the name of their split: uint8 (n, channels, height, width), or vectors, float32 (n, features).
    Writes nothing beside the source. Raises NasflowError, with the process's last words, when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="nasflow-") as folder:
        given, answer, words = (Path(folder) / name for name in ("images", "logits", "stderr"))
        save_file({name: pixels.contiguous() for name, pixels in images.items()}, given)
        # -I: no PYTHONPATH, no working directory, no user packages; -B: no __pycache__ in the export.
        command = [sys.executable, "-I", "-B", "-c", _PROGRAM]
        command += [str(source.absolute()), str(given), str(answer), str(BATCH_SIZE)]
        with words.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr, cwd=folder
            )
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise NasflowError(
                    f"{source.name} was checked in a process of its own, which did not end within {timeout_s:g} s; "
                    "see whether the machine is busy, then export again"
                ) from None
            finally:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        if code != 0:
            raise NasflowError(_failed(source, code, words.read_text(encoding="utf-8", errors="replace")))
        return load_file(answer)


def batched_logits(network: torch.nn.Module, images: Tensor) -> Tensor:
    """The logits of a network in this process, in the same batches as in the other one."""
    network.eval()
    with torch.inference_mode():
        starts = range(0, len(images), BATCH_SIZE)
        return torch.cat([network(images[start : start + BATCH_SIZE]).float() for start in starts])


def _failed(source: Path, code: int, words: str) -> str:
    last = next((line for line in reversed(words.splitlines()) if line.strip()), "it said nothing")
    return (
        f"{source.name} does not run in a process of its own (exit code {code}): {last.strip()}; if a plug-in's module "
        "is to blame, see to it that its file says all that it needs"
    )
