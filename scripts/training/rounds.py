"""Runs the sides in turn, each in processes of its own that keep their network and data between the rounds."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from nasflow_cli.execute.allocator import keep_freed_memory
from nasflow_cli.execute.devices import THREAD_VARIABLES
from training.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of what is compared: a loop at a precision, in so many processes with so many threads each."""

    loop: str
    precision: str
    processes: int
    threads: int

    @property
    def name(self) -> str:
        """As it stands in tables."""
        many = f" x {self.processes}" if self.processes > 1 else ""
        return f"{self.loop}{many} {self.precision}"


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have processes that are started inside find these variables."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Running:
    """A side whose processes have started and trained a first epoch, which no time is taken of."""

    def __init__(self, side: Side, problem: Problem, device: str) -> None:
        self.side = side
        self.epochs = 0
        self._pipes: list[Connection] = []
        self._processes = []
        context = multiprocessing.get_context("spawn")
        for _ in range(side.processes):
            ours, theirs = context.Pipe()
            # Not daemons: the usual loop has worker processes of its own.
            process = context.Process(target=serve, args=(theirs, side, problem, device))
            with environment(dict.fromkeys(THREAD_VARIABLES, str(side.threads))):
                process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self.about: dict[str, Any] = {}

    def epoch(self, clock: str) -> float:
        """Have each process train one epoch at once.

        Return the seconds until the last is done; with the clock `cpu` the processor seconds of all over the number of
        processes, which is what they would need side by side on as many cores.
        """
        began = time.perf_counter()
        for pipe in self._pipes:
            pipe.send(self.epochs)
        replies = [pipe.recv() for pipe in self._pipes]
        seconds = time.perf_counter() - began
        self.epochs += 1
        self.about = replies[0]
        return seconds if clock == "wall" else sum(reply["cpu_s"] for reply in replies) / len(replies)

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()


def serve(pipe: Connection, side: Side, problem: Problem, device: str) -> None:
    """Train an epoch whenever its number comes, and reply when the device has done it; end when the pipe does."""
    from training.loops import LOOPS  # noqa: PLC0415  (the main process needs none of it)

    if side.loop != "usual":
        keep_freed_memory()
    torch.set_num_threads(side.threads)
    loop = LOOPS[side.loop](problem, torch.device(device), side.precision)
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        began = cpu_seconds()
        loss = loop.epoch(number)
        if device != "cpu":
            torch.cuda.synchronize()
        params = sum(each.numel() for each in loop.network.parameters())
        pipe.send({"loss": loss, "params": params, "cpu_s": cpu_seconds() - began})


def cpu_seconds() -> float:
    """Processor seconds of this process and of the processes that it has now."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        # After the name in brackets: user and system time are the 12th and the 13th field (proc(5)).
        fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def play(problem: Problem, sides: Sequence[Side], device: str, rounds: int, clock: str) -> dict[str, dict[str, Any]]:
    """Images a second of each side, a number a round. All sides have their turn in each round, in the same order."""
    num = problem.images_an_epoch
    with ExitStack() as stack:
        running = []
        for side in sides:
            running.append(Running(side, problem, device))
            stack.callback(running[-1].close)
        for each in running:
            each.epoch(clock)
        rates: dict[str, list[float]] = {side.name: [] for side in sides}
        for _ in range(rounds):
            for each in running:
                rates[each.side.name].append(num * each.side.processes / each.epoch(clock))
    return {
        each.side.name: {
            "loop": each.side.loop,
            "precision": each.side.precision,
            "processes": each.side.processes,
            "threads": each.side.threads,
            "images_s": rates[each.side.name],
            "params": each.about["params"],
            "train_loss": each.about["loss"],
        }
        for each in running
    }
