"""What is scored: a moving average of all that is a number with a fraction, and counters as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.data_config import AugmentConfig, DataConfig
from nasflow_cli.train.data import load_splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.trainer import Trainer, scored_weights

CPU = torch.device("cpu")


class Replacing(nn.Module):
    """A user's layer that puts a new tensor in the place of its buffer, instead of changing the one that is there."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        self.centre = 0.5 * self.centre + 0.5 * x.mean(0).detach()
        return x - self.centre


class Recording(Trainer):
    """Keeps a copy of the state after each step."""

    def _update_average(self, step: int) -> None:
        super()._update_average(step)
        self.states: list[dict[str, Any]] = [*getattr(self, "states", []), self._copied()]

    def _copied(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}


def test_weights_and_statistics_are_averaged_and_counters_are_not() -> None:
    splits = load_splits(DataConfig(source="digits", train_limit=100))
    network = nn.Sequential(nn.Flatten(), Replacing(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    trainer = Recording(network, TrainingConfig(batch_size=16, ema=0.15), Normalise(splits, CPU), 0, CPU)
    expected = trainer._copied()

    trainer.epoch(0, Images.on(CPU, splits.train), AugmentConfig(), lambda _: 0.1)

    assert len(trainer.states) == len(splits.train) // 16
    for step, state in enumerate(trainer.states):
        decay = min(0.15, (1 + step) / (10 + step))  # 1/10, then .15
        for name, value in state.items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    scored = scored_weights(trainer.tensors())
    assert scored.keys() == expected.keys()
    assert int(scored["2.num_batches_tracked"]) == len(trainer.states)
    for name, value in expected.items():
        assert scored[name].numpy() == pytest.approx(value.numpy(), rel=1e-4, abs=1e-6), name
