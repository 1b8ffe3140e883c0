"""What children are trained in, and what they are scored in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.data_config import AugmentConfig, DataConfig
from nasflow_cli.core.registry import ACTIVATIONS
from nasflow_cli.nets.activations import activation
from nasflow_cli.train import trainer as module
from nasflow_cli.train.data import load_splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.trainer import Trainer

CPU = torch.device("cpu")


class Witness(nn.Module):
    """Notes in which type the layer before it has computed, in training and not."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[bool, torch.dtype] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.seen[self.training] = x.dtype
        return x


def seen_by(first: nn.Module, precision: str) -> dict[bool, torch.dtype]:
    """Types in a network that begins with `first`, after an epoch and a score on digits."""
    splits = load_splits(DataConfig(source="digits", train_limit=60))
    witness = Witness()
    network = nn.Sequential(first, witness, nn.Flatten(), nn.LazyLinear(10))
    network(torch.zeros(1, 1, 8, 8))
    recipe = TrainingConfig(precision=precision, batch_size=16)  # type: ignore[arg-type]
    trainer = Trainer(network, recipe, Normalise(splits, CPU), 3, CPU)
    trainer.epoch(0, Images.on(CPU, splits.train), AugmentConfig(), lambda _: 0.01)
    trainer.evaluate(Images.on(CPU, splits.validation))
    return witness.seen


def conv() -> nn.Module:
    return nn.Conv2d(1, 4, 3)


@pytest.mark.parametrize(
    ("has_it", "first", "precision", "trained_in"),
    [
        (True, conv(), "auto", torch.bfloat16),
        (False, conv(), "auto", torch.float32),
        (True, conv(), "float32", torch.float32),
        (False, conv(), "bfloat16", torch.bfloat16),
        (True, nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), "auto", torch.float32),
    ],
    ids=["images, a CPU that has it", "images, a CPU without", "told not to", "told to", "vectors"],
)
def test_children_are_trained_in_bfloat16_where_that_gains_and_always_scored_in_float32(
    monkeypatch: pytest.MonkeyPatch, has_it: bool, first: nn.Module, precision: str, trained_in: torch.dtype
) -> None:
    monkeypatch.setattr(module, "computes_in_bfloat16", lambda: has_it)

    assert seen_by(first, precision) == {True: trained_in, False: torch.float32}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_activation_can_be_trained_in_bfloat16_on_a_cpu(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), activation(name)())
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(2, 3, 8, 8)).sum().backward()

    assert torch.isfinite(network[0].weight.grad).all()
