"""Runs an exported network where nothing of nasflow is: a fresh, isolated Python process that gets a file and examples.

Refuses an answer from a process that imported nasflow, failed or took too long. The process ends with its parent.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nasflow_cli.core.errors import NasflowError

_PROGRAM = """
import importlib.util, json, os, queue, sys, threading

given, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what a network prints is no answer
batches = queue.Queue()

def read():
    # The parent holds the other end of standard input; when it dies, so do we.
    while line := given.readline():
        shape, kind, size = json.loads(line)
        batches.put((shape, kind, body := given.read(size)))
        if not shape:
            return
        if len(body) < size:
            break
    os._exit(1)

threading.Thread(target=read, daemon=True).start()
(source,) = sys.argv[1:]
spec = importlib.util.spec_from_file_location("exported_network", source)
module = sys.modules["exported_network"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
network = module.load()
import torch
with torch.inference_mode():
    while (batch := batches.get())[0]:
        shape, kind, body = batch
        logits = network(torch.frombuffer(bytearray(body), dtype=getattr(torch, kind)).view(shape)).float()
        answers.write(json.dumps(list(logits.shape)).encode() + b"\\n" + logits.contiguous().numpy().tobytes())
        answers.flush()
nasflow = sorted(name for name in sys.modules if name.partition(".")[0] == "nasflow_cli")
if nasflow:
    sys.exit(f"the exported network needs nasflow: it imported {', '.join(nasflow)}")
"""

Logits = Callable[[Tensor], Tensor]
"""The logits, float32 (n, classes), of a batch: uint8 (n, channels, height, width), or float32 (n, features)."""


@contextmanager
def in_fresh_process(source: Path, timeout_s: float) -> Iterator[Logits]:
    """Load the network that `source` describes, beside its weights, and yield what computes its logits there.

    A batch at a time passes through pipes; nothing is written beside the source. Raises NasflowError, with the
    process's last words, when it fails, lets a batch wait for so many seconds, or has imported nasflow.
    """
    with tempfile.TemporaryDirectory(prefix="nasflow-") as folder:
        words = Path(folder) / "stderr"
        # -I: no PYTHONPATH, no working directory, no user packages; -B: no __pycache__ in the export.
        command = [sys.executable, "-I", "-B", "-c", _PROGRAM, str(source.absolute())]
        with words.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=folder
            )
        asked = _Asked(process, timeout_s)
        try:
            yield asked.logits
            asked.end()
        except _EndedError as error:
            if asked.is_late:
                raise NasflowError(
                    f"{source.name} was checked in a process of its own, which did not answer within {timeout_s:g} s; "
                    "see whether the machine is busy, then export again"
                ) from None
            said = words.read_text(encoding="utf-8", errors="replace")
            raise NasflowError(_failed(source, error.code, said)) from None
        finally:
            process.kill()
            process.wait()
            asked.close()


@dataclass(slots=True, kw_only=True)
class Compared:
    """Two computations of a split, batch by batch: the largest logit and difference, and how many are right in each."""

    num: int = 0
    largest: float = 0.0
    difference: float = 0.0
    right_here: int = 0
    right_there: int = 0


def compare(name: str, batches: Iterable[tuple[Tensor, Tensor]], here: Logits, there: Logits) -> Compared:
    """Compute batches of examples with their labels twice; `name` is for the message.

    Raises NasflowError when the logits have not the same shape.
    """
    found = Compared()
    for examples, labels in batches:
        with torch.inference_mode():
            ours = here(examples.contiguous()).float()
        theirs = there(examples)
        if theirs.shape != ours.shape:
            raise differs(f"logits of the {name} examples are {tuple(theirs.shape)}, not {tuple(ours.shape)}")
        found.num += len(labels)
        found.largest = _larger(found.largest, float(ours.abs().max()))
        found.difference = _larger(found.difference, float((ours - theirs).abs().max()))
        found.right_here += int((ours.argmax(1) == labels).sum())
        found.right_there += int((theirs.argmax(1) == labels).sum())
    return found


def _larger(one: float, other: float) -> float:
    """The larger of two; NaN where one is."""
    return one if one > other or math.isnan(one) else other


def differs(what: str) -> NasflowError:
    """The error that says so."""
    return NasflowError(
        f"the exported files do not compute what the trained network computes: {what}; nothing was kept. A plug-in's "
        "module whose attributes are not what it was constructed with is the usual cause"
    )


class _EndedError(Exception):
    """The process ended before its answer, or badly."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Asked:
    """The process's ends of the pipes. A question is a line of JSON and bytes, and so is an answer."""

    def __init__(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        assert process.stdin is not None  # noqa: S101 - they are pipes
        assert process.stdout is not None  # noqa: S101
        self._process, self._questions, self._answers = process, process.stdin, process.stdout
        self._timeout_s = timeout_s
        self.is_late = False

    def logits(self, examples: Tensor) -> Tensor:
        """Raises _EndedError."""
        with self._limited():
            return self._logits(examples)

    def _logits(self, examples: Tensor) -> Tensor:
        body = examples.contiguous().numpy().tobytes()
        self._ask([list(examples.shape), str(examples.dtype).removeprefix("torch."), len(body)], body)
        line = self._answers.readline()
        shape = json.loads(line) if line.endswith(b"\n") else [0]
        logits = torch.empty(shape, dtype=torch.float32)
        answer = self._answers.read(logits.nbytes)
        if not answer or len(answer) < logits.nbytes:
            raise _EndedError(self._process.wait())
        return torch.frombuffer(bytearray(answer), dtype=torch.float32).view(shape)

    def end(self) -> None:
        """Say that nothing more is asked. Raises _EndedError when it then ends with an error."""
        with self._limited():
            self._ask([[], "", 0], b"")
            if (code := self._process.wait()) != 0:
                raise _EndedError(code)

    def close(self) -> None:
        """Close the pipes; what was not read is dropped."""
        self._answers.close()
        with contextlib.suppress(OSError):  # something was still to be written
            self._questions.close()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Kill the process when this takes too long; who waits for it is woken by that."""
        timer = threading.Timer(self._timeout_s, self._end)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.is_late = True
        self._process.kill()

    def _ask(self, question: list[object], body: bytes) -> None:
        try:
            self._questions.write(json.dumps(question).encode() + b"\n" + body)
            self._questions.flush()
        except BrokenPipeError:
            raise _EndedError(self._process.wait()) from None


def _failed(source: Path, code: int, words: str) -> str:
    last = next((line for line in reversed(words.splitlines()) if line.strip()), "it said nothing")
    return (
        f"{source.name} does not run in a process of its own (exit code {code}): {last.strip()}; if a plug-in's module "
        "is to blame, see to it that its file says all that it needs"
    )
