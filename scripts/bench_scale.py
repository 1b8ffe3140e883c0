"""A run of many trials: what it takes to resume it, and to read it while it is searched.

    python scripts/bench_scale.py --folder DIR [--trials 20000] [--repeats 3] [--set K=V]... [--json OUT]

Everything is done by the command line, in processes of its own. A table of 46,875 made-up results is written, and a
search over it is started in DIR/run; unless `--set` says otherwise it models nothing (predictor off, all choices
random), since how fast it asks is not what is measured. Once so many results are in the journal, `nasflow status` and
`nasflow leaderboard` are timed beside the search; then it gets SIGTERM, and `nasflow resume` is timed from its start to
the first new line of the journal. A run that is there already goes on, so that only the first call pays for the search.
Beside the seconds stand those of the processor, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

NASFLOW = (sys.executable, "-m", "nasflow_cli")
DEPTHS, WIDTHS = (1, 2, 3, 4, 5), (32, 48, 64)
OPERATIONS = ("none", "skip", "conv1x1", "conv3x3", "avg_pool3x3")
EDGES = ("0-1", "0-2", "1-2")
BUDGETS = (12, 200)
RESUME_S, READ_S, BYTES_A_TRIAL, DRIVER_BYTES = 10.0, 2.0, 2048, 2**30
"""The goals."""


class Taken(NamedTuple):
    """Wall time and processor time, in seconds."""

    wall: float
    processor: float


def columns() -> dict[str, tuple[str | int, ...]]:
    """Every parameter of the space with its choices."""
    found: dict[str, tuple[str | int, ...]] = {f"cell.{edge}.operation": OPERATIONS for edge in EDGES}
    found |= {f"stages.{stage}.depth": DEPTHS for stage in range(3)}
    return found | {"stages.2.width": WIDTHS}


def write_table(path: Path) -> int:
    """Write a row for every combination: parts that add up, and noise. Returns how many."""
    rng = np.random.default_rng(0)
    domains = columns()
    worth = {name: dict(zip(choices, rng.normal(0, 2, len(choices)), strict=True)) for name, choices in domains.items()}
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*domains, *(f"score_{budget}" for budget in BUDGETS), "params", "seconds"])
        for row in itertools.product(*domains.values()):
            true = 70.0 + sum(worth[name][choice] for name, choice in zip(domains, row, strict=True))
            scores = [round(true - 5.0 + rng.normal(0, 1), 3), round(true + rng.normal(0, 0.2), 3)]
            writer.writerow([*row, *scores, 1000 * count % 977_000, round(rng.uniform(300, 900), 1)])
            count += 1
    return count


def write_experiment(folder: Path, trials: int) -> Path:
    """Write the table and the experiment beside it."""
    write_table(folder / "table.csv")
    experiment: dict[str, Any] = {
        "name": "scale",
        "evaluator": {
            "kind": "table",
            "path": "table.csv",
            "architecture": {name: name for name in columns()},
            "scores": {budget: f"score_{budget}" for budget in BUDGETS},
            "scale": 0.01,
            "cost": "seconds",
            "metrics": {"params": "params"},
        },
        "space": {
            "stem": {"width": 16},
            "cells": {
                "cell": {
                    "nodes": 2,
                    "edges": "all",
                    "slots": "edges",
                    "output": "last",
                    "operations": list(OPERATIONS),
                }
            },
            "stages": [
                {"cell": "cell", "depth": list(DEPTHS), "width": 16},
                {"cell": "cell", "depth": list(DEPTHS), "width": 32, "stride": 2},
                {"cell": "cell", "depth": list(DEPTHS), "width": list(WIDTHS), "stride": 2},
            ],
        },
        "search": {
            "trials": trials,
            "budget": {"rungs": list(BUDGETS)},
            "turns": "joint",
            "elites": 0,
            "random_fraction": 1.0,
            "edit_fraction": 0.0,
            "predictor": {"enabled": False},
        },
        "executor": {"kind": "inline"},
    }
    path = folder / "scale.yaml"
    path.write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")
    return path


class Lines:
    """Counts the whole lines of a file that grows; each look reads only what was appended since the last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = self._read_bytes = 0

    def look(self) -> int:
        """How many there are now; 0 while the file is not there."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                data = file.read()
            # What is not whole yet is read again: a resumed search cuts it.
            self._read_bytes += data.rfind(b"\n") + 1
            self._count += data.count(b"\n")
        return self._count


def peak_bytes(pid: int) -> int:
    """The most resident memory that a live process has had."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has ended")


def seconds(*arguments: str | Path) -> Taken:
    """What a command takes. Raises CalledProcessError when it fails."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([*NASFLOW, *map(str, arguments)], check=True, capture_output=True)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(time.perf_counter() - began, processor)


def processor_seconds(pid: int) -> float:
    """What a live process has had of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(log: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start a command whose messages go to a file."""
    with log.open("ab") as file:
        return subprocess.Popen([*NASFLOW, *map(str, arguments)], stdout=file, stderr=file)


def wait_for_lines(process: subprocess.Popen[bytes], lines: Lines, count: int, poll_s: float) -> None:
    """Wait until the journal has so many. Raises RuntimeError when the search ends before."""
    while lines.look() < count:
        if process.poll() is not None:
            raise RuntimeError(f"the search ended with exit code {process.returncode} before {count} lines")
        time.sleep(poll_s)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a search as a batch system does, and wait for it."""
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=300)


def measure(folder: Path, trials: int, repeats: int, overrides: list[str]) -> dict[str, Any]:
    """Search, read, resume. Times in seconds, sizes in bytes."""
    run, log = folder / "run", folder / "log.txt"
    journal = run / "journal.jsonl"
    lines = Lines(journal)
    more = [part for override in overrides for part in ("--set", override)]
    # Somewhat more than is asked for, so that there is always something to go on with.
    experiment = write_experiment(folder, trials + 10_000)
    began = time.perf_counter()
    first = lines.look()
    process = start(log, "search", experiment, "--run-dir", run, *more)
    wait_for_lines(process, lines, max(2 * trials, first) + 1, 1.0)
    searched = time.perf_counter() - began
    live = {name: [seconds(name, run) for _ in range(repeats)] for name in ("status", "leaderboard")}
    live["leaderboard --json"] = [seconds("leaderboard", run, "--json") for _ in range(repeats)]
    memory = peak_bytes(process.pid)
    end(process)
    resumed: list[Taken] = []
    peaks: list[int] = []
    for _ in range(repeats):
        before = lines.look()
        began = time.perf_counter()
        process = start(log, "resume", run)
        wait_for_lines(process, lines, before + 1, 0.02)
        resumed.append(Taken(time.perf_counter() - began, processor_seconds(process.pid)))
        peaks.append(peak_bytes(process.pid))
        end(process)
    told = lines.look() // 2
    return {
        "trials": told,
        "searched": {"lines_before": first, "seconds": round(searched, 1)},
        "read_while_searched_s": live,
        "resume_s": resumed,
        "bytes_a_trial": journal.stat().st_size / told,
        "driver_peak_bytes": {"search": memory, "resume": max(peaks)},
    }


def main() -> None:
    """Measure and print, beside the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True, help="where the run is kept; it can be used again")
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="K=V")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = measure(options.folder.absolute(), options.trials, options.repeats, options.overrides)
    print(f"{found['trials']} trials; searched for {found['searched']['seconds']} s; load {os.getloadavg()[0]:.1f}")
    rows = [(f"nasflow {name}, while it runs", times, READ_S) for name, times in found["read_while_searched_s"].items()]
    for name, times, goal in [*rows, ("nasflow resume, to the first new line", found["resume_s"], RESUME_S)]:
        wall, processor = ([getattr(taken, kind) for taken in times] for kind in Taken._fields)
        print(
            f"{name:<42} median {statistics.median(wall):.2f} s (worst {max(wall):.2f}; goal {goal:g}); "
            f"processor {statistics.median(processor):.2f} s"
        )
    print(f"journal: {found['bytes_a_trial']:.0f} bytes a trial (goal {BYTES_A_TRIAL})")
    for name, size in found["driver_peak_bytes"].items():
        print(f"driver of the {name}: at most {size / 2**20:.0f} MiB (goal {DRIVER_BYTES / 2**20:.0f})")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
