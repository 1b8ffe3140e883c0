"""The network that a search found beside hand-made residual networks of no more parameters and FLOPs.

    nasflow search CONFIG; nasflow train RUN --epochs E --seeds 3
    python scripts/bench_handmade.py --run RUN --epochs E --seeds 3 --json OUT

The hand-made ones are those of He et al. 2016, section 4.2 (three stages, basic blocks, 6n + 2 layers; 1x1
convolutions where a shortcut changes shape), each with its `--blocks` as wide as the found network's parameters and
FLOPs allow. They are trained by the run's recipe, on the same images, from as many seeds, and tested once each. One job
a core.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasflow_cli import assemble
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.seeds import Purpose, derived_seed
from nasflow_cli.nets.measure import measure
from nasflow_cli.store.final_results import FinalTraining, final_trainings
from nasflow_cli.store.journal import history_of, read_events
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data import Labelled, load_splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.schedule import Schedule
from nasflow_cli.train.trainer import Trainer

CPU = torch.device("cpu")
WIDEST = 256


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != width:
            self.shortcut = nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, width, height / stride, width / stride)."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


def resnet(channels: int, classes: int, blocks: int, width: int) -> nn.Module:
    """A residual network of three stages, as wide as `width`, twice and four times that."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    now = width
    for stage in range(3):
        for block in range(blocks):
            layers.append(Block(now, width << stage, 2 if stage and not block else 1))
            now = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(now, classes))


def size_of(shape: tuple[int, ...], classes: int, blocks: int, width: int) -> tuple[int, int]:
    """Parameters and FLOPs (2 a multiply-add) of one example."""
    with torch.device("meta"):
        network = resnet(shape[0], classes, blocks, width)
    found = measure(network, shape[0], shape[1:])
    return found.params, found.flops


def widest(shape: tuple[int, ...], classes: int, blocks: int, most: tuple[int, int]) -> int:
    """The largest width whose network has no more parameters and FLOPs than `most`; 0 when none has."""
    fitting = 0
    for width in range(1, WIDEST + 1):
        params, flops = size_of(shape, classes, blocks, width)
        if params > most[0] or flops > most[1]:
            break
        fitting = width
    return fitting


def as_he_did(network: nn.Module) -> None:
    """Draw the weights of convolutions as He et al. 2015 did: normal, of variance 2 over the outputs."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def trained(config: ExperimentConfig, shape: tuple[int, int, bool], epochs: int, number: int) -> float:
    """Test accuracy after training on training and validation data, as `nasflow train` does it.

    `shape` is blocks a stage, width, and whether the weights are drawn as He did, or as torch does.
    """
    blocks, width, he = shape
    torch.set_num_threads(1)
    splits = load_splits(config.data_section)
    seed = derived_seed(config.seed, number, Purpose.FINAL)
    torch.manual_seed(derived_seed(seed, 0, Purpose.WEIGHTS))
    network = resnet(splits.input_shape[0], splits.num_classes, blocks, width)
    if he:
        as_he_did(network)
    trainer = Trainer(network, config.training, Normalise(splits, CPU), seed, CPU)
    both = Labelled(
        images=np.concatenate([splits.train.images, splits.validation.images]),
        labels=np.concatenate([splits.train.labels, splits.validation.labels]),
    )
    train, rate = Images.on(CPU, both), Schedule(recipe=config.training, budget=epochs, horizon=epochs).rate
    for epoch in range(epochs):
        trainer.epoch(epoch, train, config.data_section.augment, rate)
    return trainer.evaluate(Images.on(CPU, splits.test)).accuracy


def found_in(run: RunDirectory, epochs: int, seeds: int) -> FinalTraining:
    """The run's final training of so many epochs and seeds. Exits when there is none."""
    best = history_of(read_events(run.journal), run.journal).best()
    fitting = [
        each
        for each in final_trainings(run)
        if best is not None and each.key == best[0].key and each.epochs == epochs and len(each.results) >= seeds
    ]
    if not fitting:
        raise SystemExit(f"the best has no final training of {epochs} epochs from {seeds} seeds; run `nasflow train`")
    return fitting[0]


def main() -> None:
    """Train what is to be compared, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 2, 3], help="blocks a stage; 3 is ResNet-20")
    parser.add_argument("--he", action="store_true", help="initial weights as He et al. 2015, not as torch")
    parser.add_argument("--wider", type=int, default=0, help="channels above the bounds, to see what they cost")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run = RunDirectory(options.run)
    config = assemble.load(run.resolved_config, [])
    found = found_in(run, options.epochs, options.seeds)
    splits = load_splits(config.data_section)
    most = found.results[0].params, found.results[0].flops
    widths = {
        blocks: widest(splits.input_shape, splits.num_classes, blocks, most) + options.wider
        for blocks in options.blocks
    }
    rows: list[dict[str, Any]] = [
        {
            "network": f"found (trial {found.trial})",
            "params": most[0],
            "flops": most[1],
            "accuracies": [each.test_accuracy for each in found.results[: options.seeds]],
        }
    ]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        futures = {
            blocks: [
                pool.submit(trained, config, (blocks, width, options.he), options.epochs, number)
                for number in range(options.seeds)
            ]
            for blocks, width in widths.items()
            if width
        }
        for blocks, runs in futures.items():
            params, flops = size_of(splits.input_shape, splits.num_classes, blocks, widths[blocks])
            rows.append(
                {
                    "network": f"ResNet-{6 * blocks + 2}, width {widths[blocks]}",
                    "params": params,
                    "flops": flops,
                    "accuracies": [run.result() for run in runs],
                }
            )
    print(f"{'network':>24} {'params':>9} {'MFLOPs':>7} {'test':>7} {'+-':>6}")
    for row in rows:
        scores = row["accuracies"]
        spread = stdev(scores) if len(scores) > 1 else 0.0
        print(
            f"{row['network']:>24} {row['params']:>9} {row['flops'] / 1e6:>7.2f} {fmean(scores):>7.4f} {spread:>6.4f}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
