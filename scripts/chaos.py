"""A search whose driver and workers are killed again and again, and what has to hold of it afterwards.

    python scripts/chaos.py [CONFIG] --folder DIR [--kills 50] [--trials 140] [--seed 0] [--set K=V]... [--json OUT]

A real search by the command line with two workers; `--set executor.kind=ray` has it on Ray, whose actors are killed
then. A seeded schedule says who gets SIGKILL, after how much progress (lines in the journal, the metrics and the logs)
and how many seconds later; a killed driver is followed by `nasflow resume`. At the end: every trial told once, no key
trained twice at a budget, at most one epoch a kill paid above the plan, the leaderboard equal to a fold of the journal,
no process left. Repeats of `search.confirm` train a key again, each from its own seed. Linux only: processes are found
in /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
NASFLOW = (sys.executable, "-m", "nasflow_cli")
MARK = "NASFLOW_CHAOS"
"""In the environment of every process of the search, so that those left behind are found."""

PATIENCE_S = 1800.0
POLL_S = 0.02
_START = re.compile(r"^(?:going on from trial \d+ after (\d+) epochs|starting from fresh weights)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One kill: of whom, after how many new lines, and how many seconds after those."""

    victim: Literal["driver", "worker"]
    after: int
    delay_s: float


@dataclass(slots=True, kw_only=True)
class Segment:
    """What one process trained of a trial: it began after `start` epochs and had `end` when it was killed."""

    start: int
    end: int


@dataclass(slots=True, kw_only=True)
class Record:
    """What the kills hit. `hits` counts a trial's kills; `segments` has its trainings that a kill ended, in order."""

    kills: Counter[str] = field(default_factory=Counter)
    hits: Counter[int] = field(default_factory=Counter)
    segments: dict[int, dict[int, Segment]] = field(default_factory=dict)


def schedule(seed: int, kills: int) -> list[Strike]:
    """The same kills for the same seed: one in two of the driver, some of them while it starts."""
    rng = random.Random(seed)  # noqa: S311 - a schedule, no secret
    strikes = []
    for _ in range(kills):
        victim: Literal["driver", "worker"] = "driver" if rng.random() < 0.5 else "worker"
        is_early = victim == "driver" and rng.random() < 0.2
        strikes.append(
            Strike(
                victim=victim,
                after=0 if is_early else rng.randint(1, 12),
                delay_s=rng.uniform(0.0, 8.0) if is_early else rng.uniform(0.0, 0.5),
            )
        )
    return strikes


class Run:
    """A run directory seen from outside: its files are read as they are, with none of nasflow's own code."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "journal.jsonl"

    def events(self) -> list[dict[str, Any]]:
        """The whole lines of the journal."""
        return _json_lines(self.journal)

    def num_lines(self) -> int:
        """Lines that the search has written anywhere: the measure of progress."""
        files = [self.journal, *self.root.glob("trials/*/metrics.jsonl"), *self.root.glob("trials/*/log.txt")]
        return sum(file.read_bytes().count(b"\n") for file in files if file.exists())

    def starts(self, trial: int) -> list[int]:
        """After how many epochs each of a trial's trainings began."""
        log = self.root / "trials" / str(trial) / "log.txt"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return [int(epochs or 0) for epochs in _START.findall(text)]

    def last_epoch(self, trial: int, start: int) -> int:
        """The last epoch that a trial finished; `start` when it has finished none."""
        lines = _json_lines(self.root / "trials" / str(trial) / "metrics.jsonl")
        return max([start, *(int(line["epoch"]) for line in lines)])

    def pending(self) -> list[int]:
        """Trials that were asked and not told."""
        events = self.events()
        told = {event["trial"] for event in events if event["event"] == "told"}
        return [event["trial"] for event in events if event["event"] == "asked" and event["trial"] not in told]


def _json_lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


class Siege:
    """The search, and who kills it."""

    def __init__(self, config: Path, run: Run, overrides: Sequence[str], log: Path) -> None:
        self.config = config
        self.run = run
        self.overrides = [part for override in overrides for part in ("--set", override)]
        self.log = log
        self.record = Record()
        self._token = f"{os.getpid()}-{time.time_ns()}"
        self._driver = self._start()

    def strike(self, strike: Strike) -> None:
        """Wait for the moment and kill. Raises RuntimeError when the search ended before."""
        before = self.run.num_lines()
        _wait("progress", lambda: self._lives() and self.run.num_lines() >= before + strike.after)
        time.sleep(strike.delay_s)
        self.record.kills[strike.victim] += 1
        if strike.victim == "worker":
            self._kill_worker()
            return
        self._driver.kill()
        self._driver.wait()
        self.nobody_is_left()
        for trial in self.run.pending():
            self._note(trial)
        self._driver = self._start()

    def finish(self) -> None:
        """Wait for the end of the search. Raises RuntimeError when that is not a good one."""
        code = self._driver.wait(timeout=3600)
        if code != 0:
            raise RuntimeError(f"the search ended with exit code {code}; see {self.log}")
        self.nobody_is_left()

    def nobody_is_left(self) -> None:
        """Wait until no process of the search lives. Raises RuntimeError when one stays."""
        _wait("the end of all processes", lambda: not list(self._processes()), 20.0)

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        self._driver.kill()
        self._driver.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        if self.run.journal.exists():
            command = [*NASFLOW, "resume", str(self.run.root)]
        else:
            command = [*NASFLOW, "search", str(self.config), "--run-dir", str(self.run.root), *self.overrides]
        with self.log.open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, MARK: self._token})

    def _lives(self) -> bool:
        if self._driver.poll() is not None:
            raise RuntimeError(
                f"the search ended (exit code {self._driver.returncode}) before the last kill; see {self.log}, "
                "or give it more trials"
            )
        return True

    def _kill_worker(self) -> None:
        """Kill the worker that has the most recent log; it, or the trial that it begins, is hit."""
        workers: list[int] = []

        def there_is_one() -> bool:
            workers[:] = [pid for pid in self._processes() if pid != self._driver.pid and _is_worker(pid)]
            return self._lives() and bool(workers)

        _wait("a worker", there_is_one)
        worker = max(workers)
        log = _link(f"/proc/{worker}/fd/1")
        above = _parent(worker)
        victim = above if _bytes(Path(f"/proc/{above}/cmdline")).startswith(b"ray::Actor") else worker
        os.kill(victim, signal.SIGKILL)
        _wait("the worker's death", lambda: not _lives(victim) and not _lives(worker))
        if log.name == "log.txt" and log.parent.name.isdecimal():
            self._note(int(log.parent.name))

    def _note(self, trial: int) -> None:
        """Write down how far a trial had come when a kill hit it."""
        starts = self.run.starts(trial)
        self.record.hits[trial] += 1
        if starts:
            segment = Segment(start=starts[-1], end=self.run.last_epoch(trial, starts[-1]))
            self.record.segments.setdefault(trial, {})[len(starts) - 1] = segment

    def _processes(self) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and f"{MARK}={self._token}".encode() in _bytes(entry / "environ").split(b"\0"):
                yield int(entry.name)


def _is_worker(pid: int) -> bool:
    """Whether this is a process that trains; what speaks to Ray is made in the same way, but writes another log."""
    is_made_so = b"spawn_main" in _bytes(Path(f"/proc/{pid}/cmdline"))
    return is_made_so and _link(f"/proc/{pid}/fd/1").name not in ("bridge.log", "gone")


def _parent(pid: int) -> int:
    return int((_bytes(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split() or [b"", b"0"])[1])


def _lives(pid: int) -> bool:
    stat = _bytes(Path(f"/proc/{pid}/stat"))
    return bool(stat) and stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def _bytes(path: Path) -> bytes:
    """What a file of /proc holds; nothing when its process is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _link(path: str) -> Path:
    try:
        return Path(os.readlink(path))
    except OSError:
        return Path("gone")


def _wait(what: str, is_there: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not is_there():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {patience_s:g} s for {what}")
        time.sleep(POLL_S)


def paid_epochs(run: Run, record: Record) -> tuple[int, int]:
    """Epochs that were trained to their end in all, and those among them that were trained a second time."""
    paid = again = 0
    for event in run.events():
        if event["event"] != "asked":
            continue
        starts, known = run.starts(event["trial"]), record.segments.get(event["trial"], {})
        reached = None
        for number, start in enumerate(starts):
            segment = known.get(number)
            end = segment.end if segment else run.last_epoch(event["trial"], start)
            paid += max(0, end - start)
            again += max(0, reached - start) if reached is not None else 0
            reached = end
    return paid, again


def faults(run: Run, record: Record, planned_epochs: int) -> list[str]:
    """What does not hold of a finished run. An empty list is what is hoped for."""
    events = run.events()
    asked = [event for event in events if event["event"] == "asked"]
    told = [event for event in events if event["event"] == "told"]
    paid, again = paid_epochs(run, record)
    kills = sum(record.kills.values())
    # Repeats of the best (phase `confirm`) are told apart by their seeds.
    trained = Counter((e["key"], e["budget"], e["seed"] if e["phase"] == "confirm" else None) for e in asked)
    holds = {
        "trials are asked one after the other": [event["trial"] for event in asked] == list(range(len(asked))),
        "every trial is told exactly once": Counter(event["trial"] for event in told) == Counter(range(len(asked))),
        "no key is trained twice at a budget, repeats from other seeds aside": max(trained.values(), default=1) == 1,
        "no trial is begun more often than a kill hit it, and once": all(
            len(run.starts(event["trial"])) <= 1 + record.hits[event["trial"]] for event in asked
        ),
        f"{paid} epochs paid are at most one a kill above the plan of {planned_epochs}": paid <= planned_epochs + kills,
        f"{again} epochs trained again are at most one a kill": again <= kills,
        "the leaderboard is a fold of the journal": leaderboard(asked, told) == _ranking(run.root / "leaderboard.json"),
        "the journal says that the search is finished": bool(events) and events[-1]["event"] == "finished",
        "no temporary file is left": not list(run.root.rglob(".nasflow-*.tmp")),
    }
    return [f"it does not hold that {what}" for what, is_so in holds.items() if not is_so]


def leaderboard(asked: list[dict[str, Any]], told: list[dict[str, Any]]) -> list[tuple[int, str, float, int]]:
    """(trial, key, mean score, budget) of each network at its largest budget, best first, from the journal alone.

    At a budget, a mean over several seeds comes before a single score.
    """
    scores = {event["trial"]: event["score"] for event in told if event["score"] is not None}
    scored: dict[tuple[str, int], list[int]] = {}
    for event in asked:
        if event["trial"] in scores:
            scored.setdefault((event["key"], event["budget"]), []).append(event["trial"])
    largest, ranked = dict(sorted(scored)), []  # of each key the last, which is the largest budget, stays
    for key, budget in largest.items():
        trials = scored[key, budget]
        mean = statistics.fmean(scores[trial] for trial in trials)
        ranked.append((-budget, len(trials) == 1, -mean, trials[0], key))
    return [(trial, key, -mean, -budget) for budget, _, mean, trial, key in sorted(ranked)]


def _ranking(path: Path) -> list[tuple[int, str, float, int]]:
    rows = json.loads(path.read_bytes())["rows"]
    return [(row["trial"], row["key"], row["score"], row["budget"]) for row in rows]


def besiege(
    config: Path, folder: Path, strikes: Sequence[Strike], overrides: Sequence[str], say: Callable[[str], None]
) -> tuple[Run, Record]:
    """Run a search to its end under these kills. Raises RuntimeError when it does not come to one."""
    run = Run(folder / "run")
    siege = Siege(config, run, overrides, folder / "log.txt")
    try:
        for number, strike in enumerate(strikes, start=1):
            siege.strike(strike)
            told = sum(event["event"] == "told" for event in run.events())
            say(f"kill {number}: the {strike.victim}, after {told} results")
        siege.finish()
    finally:
        siege.end()
    return run, siege.record


def planned(config: Path, overrides: Sequence[str]) -> int:
    """Epochs that the search pays for when nothing goes wrong."""
    more = [part for override in overrides for part in ("--set", override)]
    done = subprocess.run([*NASFLOW, "check", str(config), "--json", *more], check=True, capture_output=True)
    return int(json.loads(done.stdout)["epochs"])


def main() -> None:
    """Besiege, check, print; exit code 1 when something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path, nargs="?", default=ROOT / "configs" / "digits.yaml")
    parser.add_argument("--folder", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--trials", type=int, default=140, help="so many that the last kill comes before the last trial"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="K=V")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    overrides = ["executor.workers=2", f"search.trials={options.trials}", *options.overrides]
    epochs = planned(options.config, overrides)
    began = time.monotonic()
    run, record = besiege(options.config, options.folder, schedule(options.seed, options.kills), overrides, print)
    seconds = time.monotonic() - began
    told = [event for event in run.events() if event["event"] == "told"]
    paid, again = paid_epochs(run, record)
    found = faults(run, record, epochs)
    facts = {
        "kills": dict(record.kills),
        "trials": len(told),
        "failed": sum(event["score"] is None for event in told),
        "trials_hit": len(record.hits),
        "epochs": {"planned": epochs, "paid": paid, "again": again},
        "seconds": round(seconds),
        "best": max(event["score"] or 0.0 for event in told),
        "faults": found,
    }
    print(json.dumps(facts, indent=1))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
