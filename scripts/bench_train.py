"""How many images a second a child is trained on, beside two other loops that train the same network.

    python scripts/bench_train.py --json OUT [--device cuda] [--data CIFAR10] [--rounds 7]

Three networks of spaces that ship, on the same images with the same changes of them (mirrored, shifted by 4; vectors as
they are), batch size, loss and optimiser:

usual  as most people write it: single precision, a DataLoader with two workers that change images with Pillow
hand   written for this one network: everything resident, channels last, fused, the fewest layers, freed memory kept,
       one thread where more do not pay
ours   the trainer of `nasflow search`, on the network that the space describes, in the environment of its workers

`ours x N` is what a search does with N cores: a worker with one thread on each. Sides take turns; each has processes of
its own, which keep what they have between rounds, and trains one epoch first of which no time is taken. Reported are
images a second (median, least, most over the rounds), medians of the ratios of each round, and the share of what plain
matrix products reach on this device (3 times the forward FLOPs of an image count). Images are noise without `--data`, a
folder of CIFAR-10 as parquet files.

Where others use the machine, `--clock cpu` counts processor seconds of all processes of a side instead, on one thread
each: images a second are then those of one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from training.options import PRECISIONS, make_parser, parsed_by
from training.rounds import Side, play

from nasflow_cli.core.errors import NasflowError
from nasflow_cli.environment import environment


def sides_of(device: str, threads: int, precisions: Sequence[str]) -> list[Side]:
    """What is compared; the search's own way on a CPU with more than one core only."""
    found = [Side(loop="usual", precision="float32", processes=1, threads=threads)]
    for precision in precisions:
        found += [Side(loop=loop, precision=precision, processes=1, threads=threads) for loop in ("hand", "ours")]
        if device == "cpu" and threads > 1:
            found.append(Side(loop="ours", precision=precision, processes=threads, threads=1))
    return found


def matrix_products(device: str, precision: str, clock: Callable[[], float], seconds: float = 1.0) -> float:
    """FLOPs a second (2 a multiply-add) that products of square matrices reach: the best of some repeats."""
    size = 2048 if device == "cpu" else 8192
    dtype = getattr(torch, precision)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), clock() + seconds
    while clock() < end or best == float("inf"):
        _wait(device)
        began = clock()
        left @ right
        _wait(device)
        best = min(best, clock() - began)
    return 2 * size**3 / best


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each side of ours: the median over the rounds of its images a second over those of the other two.

    The hand-written loop that it is compared with has the same precision.
    """
    result: dict[str, dict[str, float]] = {}
    for name, side in found.items():
        if side["loop"] == "ours":
            others = {"usual": found["usual float32"], "hand": found[f"hand {side['precision']}"]}
            result[name] = {
                other: median(a / b for a, b in zip(side["images_s"], theirs["images_s"], strict=True))
                for other, theirs in others.items()
            }
    return result


def summary(found: dict[str, dict[str, Any]], flops: int, ceilings: dict[str, float]) -> None:
    """Add to each side what its rounds come to; `flops` are those of an image, forward."""
    over = ratios(found)
    for name, side in found.items():
        rates = side["images_s"]
        side["median"], side["min"], side["max"] = median(rates), min(rates), max(rates)
        side["share"] = 3 * flops * side["median"] / ceilings[side["precision"]]
        if name in over:
            side["over_usual"], side["over_hand"] = over[name]["usual"], over[name]["hand"]


def line(network: str, name: str, side: dict[str, Any]) -> str:
    """One side in words."""
    over = [format(side[key], ".2f") if key in side else "-" for key in ("over_usual", "over_hand")]
    rates = "".join(f" {side[key]:>9.0f}" for key in ("median", "min", "max"))
    return f"{network:<12} {name:<20}{rates} {over[0]:>8} {over[1]:>8} {100 * side['share']:>7.1f} %"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where others use the machine")
    options = parsed_by(parser, arguments)
    if options.clock == "cpu":
        if options.device != "cpu":
            parser.error("--clock cpu is for --device cpu")
        options.threads = 1
    return options


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all networks, and print a line a side. Raises NasflowError."""
    from training.members import IMAGES, problem_of  # noqa: PLC0415  (each side's process imports this file)

    from nasflow_cli.nets.cost import cost  # noqa: PLC0415

    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    ceilings = {precision: matrix_products(options.device, precision, clock) for precision in PRECISIONS}
    print(f"matrix products: {', '.join(f'{name} {value / 1e9:,.0f} GFLOP/s' for name, value in ceilings.items())}")
    print(
        f"{'network':<12} {'side':<20} {'images/s':>9} {'least':>9} {'most':>9} {'x usual':>8} {'x hand':>8}     share",
        flush=True,
    )
    networks: dict[str, Any] = {}
    for name in options.networks:
        problem = problem_of(name, options.images or IMAGES[name], options.batch_size, options.data)
        about = cost(problem.graph, problem.input_shape, 10)
        sides = sides_of(options.device, options.threads, options.precisions)
        found = play(problem, sides, options.device, options.rounds, options.clock)
        summary(found, about.flops, ceilings)
        networks[name] = {
            "params": about.params,
            "flops": about.flops,
            "images": problem.images_an_epoch,
            "batch_size": problem.recipe.batch_size,
            "recipe": problem.recipe.model_dump(mode="json"),
            "augment": problem.augment.model_dump(mode="json"),
            "sides": found,
        }
        print("\n".join(line(name, side, about) for side, about in found.items()), flush=True)
    return {"matrix_products_flops_s": ceilings, "networks": networks}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and write what was found."""
    options = parsed(arguments)
    try:
        found = compare(options)
    except NasflowError as error:
        print(f"bench_train: {error}", file=sys.stderr)
        return error.exit_code
    if options.json is not None:
        document = {
            "schema_version": 1,
            "device": options.device,
            "threads": options.threads,
            "clock": options.clock,
            "rounds": options.rounds,
            "data": "noise" if options.data is None else "CIFAR-10",
            "environment": environment(),
            **found,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
