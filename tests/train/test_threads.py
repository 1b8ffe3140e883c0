"""A network whose layers are too small for threads is trained by one; every other by all that its worker has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.data_config import AugmentConfig
from nasflow_cli.train.data import Labelled, Splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.threads import at_most, is_small
from nasflow_cli.train.trainer import DivergedError, Trainer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Counting(nn.Module):
    """Two outputs for vectors of four features; notes how many threads torch has at each step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, width), nn.Linear(width, 2)
        self.seen: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        self.seen.add(torch.get_num_threads())
        outputs: Tensor = self.out(self.wide(x))
        return outputs


def trained(network: Counting, value: float = 1.0) -> set[int]:
    """How many threads an epoch of `network` sees."""
    data = Labelled(images=np.full((8, 4), value, dtype=np.float32), labels=np.arange(8) % 2)
    splits = Splits(
        train=data, validation=data, test=data, classes=("a", "b"), mean=(0.0,) * 4, std=(1.0,) * 4, test_indices=None
    )
    recipe = TrainingConfig.model_validate({"batch_size": 8})
    trainer = Trainer(network, recipe, Normalise(splits, CPU), 0, CPU)
    trainer.epoch(0, Images.on(CPU, data), AugmentConfig(), lambda _: 0.1)
    return network.seen


def test_small_layers_are_trained_by_one_thread_and_wide_ones_by_all() -> None:
    assert trained(Counting(2**15)) == {1}  # 8 examples x 4 features x 2^15 is 2^20
    assert trained(Counting(2**15 + 1)) == {3}


def test_the_worker_has_its_threads_again_also_when_training_fails() -> None:
    with pytest.raises(DivergedError):
        trained(Counting(2), value=float("nan"))

    assert torch.get_num_threads() == 3


def test_no_network_gets_more_threads_than_its_worker_has() -> None:
    with at_most(8):
        assert torch.get_num_threads() == 3


def test_convolutions_are_never_too_small() -> None:
    assert not is_small(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(4, 2)), 1)
    assert is_small(nn.Linear(4, 2), 1)
