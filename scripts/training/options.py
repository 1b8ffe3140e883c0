"""What both benchmarks of training are asked on their command lines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from nasflow_cli.execute.devices import usable_cores

NETWORKS = ("nasbench201", "resnet", "mlp")
PRECISIONS = ("float32", "bfloat16")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Options that say what is trained, where, and how often."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="all cores by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="in an epoch; a few seconds' worth by default")
    parser.add_argument("--batch-size", type=int, help="the recipe's by default")
    parser.add_argument("--data", type=Path, help="a folder of CIFAR-10 as parquet files; noise without it")
    parser.add_argument("--json", type=Path)
    return parser


def parsed_by(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; what cannot be measured ends the process with a message."""
    options = parser.parse_args(arguments)
    if min(options.threads, options.rounds, options.images or 1, options.batch_size or 1) < 1:
        parser.error("--threads, --rounds, --images and --batch-size are at least 1")
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: there is no CUDA device")
    return options
