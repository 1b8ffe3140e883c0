"""Training on blended examples: the loss is that of the blended labels, the shares are those of a Beta distribution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.data_config import AugmentConfig, DataConfig
from nasflow_cli.train.data import load_splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.trainer import Trainer

CPU = torch.device("cpu")


def steady(_: float) -> float:
    return 0.1


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Normalise]:
    splits = load_splits(DataConfig(source="digits", train_limit=100))
    return Images.on(CPU, splits.train), Normalise(splits, CPU)


def trainer(normalise: Normalise, **recipe: float) -> Trainer:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return Trainer(network, TrainingConfig(batch_size=16, **recipe), normalise, 3, CPU)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_the_blended_labels(digits: tuple[Images, Normalise], smoothing: float) -> None:
    outputs, labels, others = torch.randn(6, 10), torch.arange(6), torch.arange(6).flip(0)
    share = torch.tensor([0.0, 0.1, 0.4, 0.5, 0.9, 1.0])
    blended = share[:, None] * nn.functional.one_hot(labels, 10) + (1 - share)[:, None] * nn.functional.one_hot(
        others, 10
    )

    loss = trainer(digits[1], label_smoothing=smoothing)._loss_of(outputs, (labels, others, share))

    assert float(loss) == pytest.approx(
        float(nn.CrossEntropyLoss(label_smoothing=smoothing)(outputs, blended)), rel=1e-5
    )


def test_the_shares_of_an_epoch_have_the_deviation_of_their_distribution_and_depend_on_the_epoch(
    digits: tuple[Images, Normalise],
) -> None:
    made = trainer(digits[1])

    first, again, second = (made._shares(epoch, 0.5, 4000) for epoch in (0, 0, 1))

    assert first is not None
    assert second is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert float(first.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(first.std()) == pytest.approx((1 / (4 * 2.0)) ** 0.5, abs=0.02)  # Beta(a, a): 1 / (4 (2a + 1))


def test_a_batch_in_parts_has_the_loss_of_the_whole_batch(digits: tuple[Images, Normalise]) -> None:
    whole, parted = trainer(digits[1]), trainer(digits[1])
    parted.parts = 3

    losses = [each.epoch(0, digits[0], AugmentConfig(mixup=0.4), steady) for each in (whole, parted)]

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_network_trained_on_blends_goes_on_from_its_checkpoint_to_the_same_weights(
    digits: tuple[Images, Normalise],
) -> None:
    train, normalise = digits
    changes = AugmentConfig(mixup=0.4)
    whole, begun, resumed, plain = (trainer(normalise) for _ in range(4))
    for number in range(4):
        whole.epoch(number, train, changes, steady)
        plain.epoch(number, train, AugmentConfig(), steady)
        if number < 2:
            begun.epoch(number, train, changes, steady)
    resumed.restore(begun.tensors())
    for number in (2, 3):
        resumed.epoch(number, train, changes, steady)

    assert all(torch.equal(whole.tensors()[name], value) for name, value in resumed.tensors().items())
    assert not torch.equal(whole.tensors()["model.1.weight"], plain.tensors()["model.1.weight"])
    assert whole.evaluate(train).accuracy > 0.6
