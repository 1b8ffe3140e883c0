"""How long `nasflow --help` and `nasflow leaderboard` take, beside an interpreter that does nothing.

    python scripts/bench_startup.py [--run RUN] [--repeats N] [--json OUT]

Whole processes, interleaved, after one warm-up each; medians, and ratios against `python -c pass` of the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str]) -> float:
    """Wall time of a command, in seconds. Raises CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", help="a run directory; without it only --help is measured")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    nasflow = str(Path(sys.executable).with_name("nasflow"))
    commands = {"python -c pass": [sys.executable, "-c", "pass"], "nasflow --help": [nasflow, "--help"]}
    if options.run:
        commands["nasflow leaderboard"] = [nasflow, "leaderboard", options.run]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(options.repeats + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if repeat:
                times[name].append(taken)
    bare = times["python -c pass"]
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, bare, strict=True))
        print(
            f"{name:<20} median {statistics.median(values):.3f} s (min {min(values):.3f}, max {max(values):.3f}), "
            f"{ratio:.1f} times a bare interpreter"
        )
    if options.json:
        options.json.write_text(json.dumps(times, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
