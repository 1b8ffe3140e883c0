"""The demo as a measurement: search configs/digits.yaml, export, and test the exported files, for several seeds.

    python scripts/bench_digits.py [--seeds N] [--json OUT]

For each seed: wall seconds of `nasflow search` (start-up included), networks trained, turns begun by each search,
epochs paid and what rungs from scratch would have paid, validation score, and accuracy of the exported files on the
test images, measured in a process without nasflow.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def measure(seed: int, folder: Path) -> dict[str, Any]:
    """One search and its export."""
    nasflow = str(Path(sys.executable).with_name("nasflow"))
    run = folder / f"seed{seed}"
    config = str(ROOT / "configs" / "digits.yaml")
    began = time.perf_counter()
    search = [nasflow, "search", config, "--set", f"seed={seed}", "--run-dir", str(run)]
    subprocess.run(search, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    subprocess.run([nasflow, "export-best", str(run)], check=True, capture_output=True)
    evaluate = [sys.executable, "-I", str(ROOT / "scripts" / "evaluate_export.py"), str(run / "export")]
    said = subprocess.run(evaluate, check=True, capture_output=True, text=True).stdout
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    asked = [event for event in events if event["event"] == "asked"]
    told = [event for event in events if event["event"] == "told"]
    accuracy = re.search(r"0\.\d+|1\.0+", said)
    if accuracy is None:
        raise ValueError(f"no accuracy in {said!r}")
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "networks": sum(event["parent"] is None for event in asked),
        "turns": {p: len({e["turn"] for e in asked if e["phase"] == p}) for p in ("structure", "operators")},
        "epochs": sum(event["epochs"] for event in told),
        "epochs_from_scratch": sum(event["budget"] for event in asked),
        "filtered": sum(event["proposal"]["filtered"] for event in asked),
        "validation": max(e["score"] for e in told if e["score"] is not None),
        "test": float(accuracy.group()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            rows.append(measure(seed, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    for name in ("seconds", "test", "validation", "epochs"):
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"{name:<11} mean {statistics.mean(values):.4g}, deviation {spread:.2g}, worst of {len(values)}: "
            f"{max(values) if name in ('seconds', 'epochs') else min(values):.4g}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
