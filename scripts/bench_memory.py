"""What a worker's memory and speed are when its data is held and when it is streamed, on made-up images.

    python scripts/bench_memory.py [--gib 2] [--side 64] [--loaders 0 1 2] [--json OUT]

Writes a parquet file whose images take so many GiB decoded. Then, each in a process of its own: decodes them into a
run's file, as the driver does before the first trial; trains one small network for an epoch with all of them in memory;
and the same streamed, with so many loader processes. Reports the largest resident memory of each process (of the
largest loader process beside it), what it was before the data, wall seconds, processor seconds of all processes, and
images a second of the epoch. The scores must be equal in every bit, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from nasflow_cli import assemble
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.environment import environment
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.child import ChildTrainer
from nasflow_cli.train.protocol import Assignment
from nasflow_cli.train.worker_data import peak_memory_mib, store_data

DISTINCT = 1000
CLASSES = 10
SPACE = {
    "stem": {"width": 4, "stride": 2},
    "cells": {"body": {"nodes": 1, "operations": ["conv1x1", "skip"]}},
    "stages": [{"cell": "body", "width": 8, "stride": 2}],
}


def write_images(path: Path, num: int, side: int) -> None:
    """Write so many colour images as JPEG; there are 1,000 different ones."""
    rng, blobs = np.random.default_rng(0), []
    for _ in range(DISTINCT):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side)).save(buffer, "JPEG")
        blobs.append({"bytes": buffer.getvalue()})
    kind = pa.struct([("bytes", pa.binary())])
    schema = pa.schema([("image", kind), ("label", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, num, DISTINCT):
            chosen = rng.integers(0, DISTINCT, min(DISTINCT, num - start))
            images = pa.array([blobs[index] for index in chosen], kind)
            writer.write_table(pa.table({"image": images, "label": chosen % CLASSES}, schema))


def write_experiment(path: Path, images: Path, loaders: int | None) -> None:
    """An experiment on those images; None: all of them in memory."""
    executor = {"workers": 1, "data_gib": 16 if loaders is None else 0, "loaders": loaders}
    value = {
        "data": {"source": "parquet", "path": str(images), "augment": {"flip": True, "crop": 4}},
        "space": SPACE,
        "search": {"trials": 1, "budget": {"min": 1, "max": 1}},
        "executor": executor,
    }
    path.write_text(json.dumps(value), encoding="utf-8")


def act(what: str, experiment: Path, run: Path) -> dict[str, Any]:
    """What one process does, and what it took."""
    torch.set_num_threads(1)
    config = assemble.load(experiment, [])
    before, began = peak_memory_mib(), time.perf_counter()
    found = decode(config, run) if what == "decode" else train(config, run)
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "peak_mib": peak_memory_mib(),
        "before_data_mib": before,
        "largest_loader_mib": children.ru_maxrss // 1024,
        "processor_s": round(sum(each.ru_utime + each.ru_stime for each in (own, children)), 2),
        "seconds": round(time.perf_counter() - began, 2),
        **found,
    }


def decode(config: ExperimentConfig, run: Path) -> dict[str, Any]:
    """Decode all into the run's file."""
    about = store_data(config, RunDirectory(run))
    return {"data_mib": 0 if about is None else about.num_bytes / 2**20}


def train(config: ExperimentConfig, run: Path) -> dict[str, Any]:
    """Train for an epoch."""
    evaluator = ChildTrainer(config, RunDirectory(run), torch.device("cpu"))
    members = (evaluator.space.sample_member(generator(0, n, Purpose.FEASIBLE)) for n in range(20))
    member, graph = next((member, graph) for member, graph in members if graph.fault is None)
    assignment = Assignment(number=0, architecture=member, key=graph.key(), budget=1, seed=0, lineage=(0,))
    report = evaluator(assignment, lambda: False)
    evaluator.close()
    epoch = json.loads(RunDirectory(run).trial(0).metrics.read_text(encoding="utf-8"))
    return {"score": report.score, "loss": report.metrics["validation_loss"], "epoch_s": epoch["seconds"]}


def measured(what: str, experiment: Path, run: Path) -> dict[str, Any]:
    """Have a process of its own do it."""
    command = [sys.executable, __file__, "--act", what, str(experiment), str(run)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure all, a line each."""
    num = int(options.gib * 2**30) // (3 * options.side**2)
    write_images(folder / "images.parquet", num, options.side)
    packed = (folder / "images.parquet").stat().st_size / 2**20
    print(
        f"{num} images of {options.side}x{options.side}: {options.gib * 1024:.0f} MiB decoded, {packed:.0f} MiB as JPEG"
    )
    print(
        f"{'':<22} {'before':>7} {'peak MiB':>9} {'loader':>7} {'seconds':>8} {'cpu s':>7} {'images/s':>9}", flush=True
    )
    found: dict[str, Any] = {}
    runs: list[tuple[str, str, int | None, str]] = [("decoded into a file", "decode", 0, "streamed")]
    runs += [(f"streamed, {n} loaders", "train", n, "streamed") for n in options.loaders]
    for name, what, loaders, run in [*runs, ("in memory", "train", None, "resident")]:
        write_experiment(folder / "experiment.yaml", folder / "images.parquet", loaders)
        one = found[name] = measured(what, folder / "experiment.yaml", folder / run)
        trials = folder / run / "trials"
        if trials.exists():
            trials.rename(folder / f"trials of {name}")
        # Of all, 0.8 are not test, and 0.8 of those are trained on.
        speed = f"{0.64 * num / one['epoch_s']:>9.0f}" if "epoch_s" in one else ""
        line = f"{one['before_data_mib']:>7} {one['peak_mib']:>9} {one['largest_loader_mib']:>7} {one['seconds']:>8.1f}"
        line += f" {one['processor_s']:>7.1f}"
        print(f"{name:<22} {line} {speed}", flush=True)
    return found


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--loaders", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="where the images go for the time; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--act", nargs=3, metavar=("WHAT", "EXPERIMENT", "RUN"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what was found."""
    options = parsed(arguments)
    if options.act:
        what, experiment, run = options.act
        print(json.dumps(act(what, Path(experiment), Path(run))))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = compare(options, Path(folder))
    if options.json is not None:
        document = {
            "schema_version": 1,
            "gib": options.gib,
            "side": options.side,
            "environment": environment(),
        }
        options.json.write_text(json.dumps({**document, "found": found}, indent=1) + "\n", encoding="utf-8")
    scores = {(one["score"], one["loss"]) for one in found.values() if "score" in one}
    print("all scores are equal" if len(scores) == 1 else f"SCORES DIFFER: {scores}")
    return 0 if len(scores) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
