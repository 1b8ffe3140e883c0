"""What compiling a child costs and gains: `torch.compile` on the networks of `bench_train.py`, trained as by a search.

    python scripts/bench_compile.py --json OUT [--device cuda] [--data CIFAR10] [--rounds 5]

Two trainers of the same network take turns in one process, one of them with a compiled network. Reported are the
seconds that compiling takes (its first epoch, less the median of the later ones; nothing is taken from a cache), images
a second of both (median, least, most), the median of their ratios, and after how many images compiling has paid. Each
child is another network, and one that is promoted goes on in a process of its own: each rung would pay it anew.
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
import torch.compiler.config
from training.loops import Loop, OurLoop
from training.members import IMAGES, problem_of
from training.options import make_parser, parsed_by
from training.problem import Problem

from nasflow_cli.core.errors import NasflowError
from nasflow_cli.environment import environment
from nasflow_cli.execute.allocator import keep_freed_memory

MODES = ("default", "reduce-overhead", "max-autotune")


def compiled(loop: OurLoop, mode: str) -> OurLoop:
    """The same loop, whose network is compiled at its first step."""
    loop.network.compile(mode=mode)
    return loop


def seconds_of(loop: Loop, number: int, device: str) -> float:
    """Train one epoch, to the end of what the device has to do."""
    began = time.perf_counter()
    loop.epoch(number)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def verdict(eager: Sequence[float], fast: Sequence[float], first: float, images: int) -> dict[str, Any]:
    """What was measured, from the seconds of epochs of so many images each; `first` is the compiled loop's first.

    `pays_after_images` is None where compiling gains nothing.
    """
    cost = first - median(fast)
    gained = (median(eager) - median(fast)) / images
    rates = {name: [images / each for each in times] for name, times in (("eager", eager), ("compiled", fast))}
    return {
        **{name: {"images_s": of, "median": median(of), "min": min(of), "max": max(of)} for name, of in rates.items()},
        "ratio": median(plain / quick for plain, quick in zip(eager, fast, strict=True)),
        "compile_s": cost,
        "pays_after_images": round(cost / gained) if gained > 0 else None,
    }


def measure(problem: Problem, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let both train in turn, each after a first epoch."""
    torch.compiler.reset()
    make: Callable[[], OurLoop] = lambda: OurLoop(problem, torch.device(options.device), precision)  # noqa: E731
    loops = make(), compiled(make(), options.mode)
    seconds_of(loops[0], 0, options.device)
    first = seconds_of(loops[1], 0, options.device)
    times = [[seconds_of(loop, 1 + number, options.device) for loop in loops] for number in range(options.rounds)]
    eager, fast = zip(*times, strict=True)
    return verdict(eager, fast, first, problem.images_an_epoch)


def line(network: str, precision: str, found: dict[str, Any]) -> str:
    """One network in words."""
    rates = "".join(f" {found[side][key]:>9.0f}" for side in ("eager", "compiled") for key in ("median", "min", "max"))
    after = "never" if found["pays_after_images"] is None else f"{found['pays_after_images']:,}"
    return f"{network:<12} {precision:<9}{rates} {found['ratio']:>6.2f} {found['compile_s']:>8.1f} {after:>12}"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--mode", choices=MODES, default="default", help="of torch.compile")
    return parsed_by(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all networks, print a line each, and write what was found."""
    options = parsed(arguments)
    torch.compiler.config.force_disable_caches = True
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print(
        f"{'network':<12} {'precision':<9} {'eager':>9} {'least':>9} {'most':>9} {'compiled':>9} {'least':>9} "
        f"{'most':>9} {'ratio':>6} {'cost, s':>8} {'pays after':>12}",
        flush=True,
    )
    networks: dict[str, dict[str, Any]] = {name: {} for name in options.networks}
    try:
        for name in options.networks:
            problem = problem_of(name, options.images or IMAGES[name], options.batch_size, options.data)
            for precision in options.precisions:
                networks[name][precision] = measure(problem, precision, options)
                print(line(name, precision, networks[name][precision]), flush=True)
    except NasflowError as error:
        print(f"bench_compile: {error}", file=sys.stderr)
        return error.exit_code
    if options.json is not None:
        document = {
            "schema_version": 1,
            **{key: getattr(options, key) for key in ("device", "threads", "mode", "rounds")},
            "data": "noise" if options.data is None else "CIFAR-10",
            "environment": environment(),
            "networks": networks,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
