"""What Ray costs beside worker processes of our own: seconds to start and to end, a task's way there and back, memory.

    python scripts/bench_ray.py [--tasks 200] [--json OUT]

Needs the extra `cluster`. A search on Ray whose actors and driver are killed: `scripts/chaos.py` with
`--set executor.kind=ray`. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasflow_cli.execute.cluster import make_ray
from nasflow_cli.execute.local import make_local
from nasflow_cli.execute.protocol import Executor, Slot, Task
from nasflow_cli.execute.session import members

SLOTS = (Slot(name="cpu:0"), Slot(name="cpu:1"))


def make_echo(setup: Mapping[str, Any]) -> Callable[[dict[str, Any], Callable[[], bool]], dict[str, Any]]:
    """The target of the tasks here: they do nothing."""
    return lambda payload, should_stop: payload


def seconds_of(executor: Executor, log: Path) -> float:
    """Seconds from the submission of a task to its outcome."""
    begin = time.perf_counter()
    executor.submit(Task(number=0, payload={}, log=log))
    (outcome,) = executor.collect(None)
    if outcome.reply is None:
        raise RuntimeError(f"the task failed: {outcome.failure}")
    return time.perf_counter() - begin


def mebibytes(pids: list[int]) -> float:
    """Memory of processes, what they share divided among those that share it (PSS)."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def measured(make: Callable[..., Executor], num_tasks: int, log: Path) -> dict[str, float]:
    """Start an executor, run a task, then more, and end it. `start_s` includes the first task's worker."""
    begin = time.perf_counter()
    executor = make("bench_ray:make_echo", {}, SLOTS, None, time.time)
    first = seconds_of(executor, log)
    started = time.perf_counter() - begin
    times = [1000 * seconds_of(executor, log) for _ in range(num_tasks)]
    link = getattr(executor, "_link", None)
    memory = mebibytes([link.pid, *members(link.pid)]) if link is not None else 0.0
    begin = time.perf_counter()
    executor.close()
    return {
        "start_s": round(started, 2),
        "first_task_s": round(first, 2),
        "task_ms_median": round(statistics.median(times), 2),
        "task_ms_90_percent": round(sorted(times)[int(0.9 * len(times))], 2),
        "memory_mib": round(memory),
        "close_s": round(time.perf_counter() - begin, 2),
    }


def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        facts = {name: measured(make, options.tasks, log) for name, make in (("local", make_local), ("ray", make_ray))}
    print(json.dumps(facts, indent=1))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
