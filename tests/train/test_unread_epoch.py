"""Inside an epoch the host waits for the device once, at its end: whatever is switched on, and whoever optimises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.data_config import AugmentConfig
from nasflow_cli.train.data import Labelled, Splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.trainer import Trainer

CPU = torch.device("cpu")
ATEN = torch.ops.aten
WAITS = {
    ATEN._local_scalar_dense.default,  # item(), float(), if
    ATEN.equal.default,
    ATEN.nonzero.default,
    ATEN.masked_select.default,
    ATEN._unique2.default,
    ATEN.lift_fresh.default,  # torch.tensor(): a copy to the device, which a GPU ends before the next line
}


class Waits(TorchDispatchMode):
    """Writes down each operation for which a GPU would make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = func is ATEN.index.Tensor and any(each is not None and each.dtype == torch.bool for each in args[1])
        if masks or func in WAITS:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("augment", "parts"),
    [
        (AugmentConfig(), 1),
        (AugmentConfig(flip=True, crop=2, cutout=3, colour=0.3), 1),
        (AugmentConfig(flip=True, mixup=0.4), 2),
    ],
)
def test_the_loss_of_an_epoch_is_the_only_thing_that_the_host_reads(
    augment: AugmentConfig, parts: int, optimizer: str
) -> None:
    rng = np.random.default_rng(0)
    data = Labelled(images=rng.integers(0, 256, (24, 3, 8, 8), dtype=np.uint8), labels=rng.integers(0, 3, 24))
    splits = Splits(
        train=data,
        validation=data,
        test=data,
        classes=("a", "b", "c"),
        mean=(127.5,) * 3,
        std=(70.0,) * 3,
        test_indices=None,
        features=(),
    )
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    recipe = TrainingConfig.model_validate({"batch_size": 8, "optimizer": optimizer, "label_smoothing": 0.1})
    trainer = Trainer(network, recipe, Normalise(splits, CPU), 0, CPU)
    trainer.parts = parts
    images = Images.on(CPU, data)
    trainer.epoch(0, images, augment, lambda _: 0.1)  # the optimiser makes its state at the first step

    with Waits() as waits:
        trainer.epoch(1, images, augment, lambda _: 0.1)

    shares = ["aten.lift_fresh.default"] if augment.mixup else []  # of the whole epoch, before its first step
    assert waits.found == [*shares, "aten._local_scalar_dense.default"]
