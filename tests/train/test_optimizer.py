"""Steps are those of `torch.optim` and `clip_grad_norm_`, to the last bit; and so is what a checkpoint goes on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.train.checkpoint import CheckpointError
from nasflow_cli.train.optimizer import FusedOptimizer

RECIPES: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    "sgd without momentum": {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.1},
    "gradients that are never clipped": {"optimizer": "sgd", "gradient_clip": None},
    "gradients that are always clipped": {"optimizer": "adamw", "gradient_clip": 1e-3},
}
IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """A network with matrices, vectors, and `spare`, which its output does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.spare = nn.BatchNorm2d(3), nn.Linear(2, 2)
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs (n, 5)."""
        y: Tensor = self.linear(self.conv(self.norm(x)).mean((2, 3)))
        return y


@pytest.fixture(params=list(RECIPES))
def recipe(request: pytest.FixtureRequest) -> TrainingConfig:
    return TrainingConfig.model_validate(RECIPES[request.param])


def fresh() -> Small:
    torch.manual_seed(3)
    return Small().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def rate(step: int) -> float:
    return 0.01 / (1 + step)


def train(network: nn.Module, step: Callable[[float], None], steps: range) -> None:
    for at in steps:
        for parameter in network.parameters():
            parameter.grad = None
        network(IMAGES + at).square().mean().backward()
        step(rate(at))


def by_torch(network: nn.Module, recipe: TrainingConfig) -> Callable[[float], None]:
    """What `FusedOptimizer` stands for, from torch's own parts."""
    parameters = list(network.parameters())
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, fused=True)
    else:
        momentum = recipe.momentum
        optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=True)

    def step(rate: float) -> None:
        if recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(parameters, recipe.gradient_clip)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

    return step


def by_us(optimizer: FusedOptimizer) -> Callable[[float], None]:
    def step(rate: float) -> None:
        optimizer.rate = rate
        optimizer.step()

    return step


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def test_steps_are_those_of_torch_to_the_last_bit(recipe: TrainingConfig) -> None:
    theirs, ours = fresh(), fresh()

    train(theirs, by_torch(theirs, recipe), range(7))
    train(ours, by_us(FusedOptimizer(list(ours.parameters()), recipe)), range(7))

    assert same(theirs, ours)
    assert not torch.equal(ours.conv.weight, fresh().conv.weight)


def test_what_the_loss_does_not_depend_on_is_neither_stepped_nor_decayed(recipe: TrainingConfig) -> None:
    network = fresh()

    train(network, by_us(FusedOptimizer(list(network.parameters()), recipe)), range(3))

    assert torch.equal(network.spare.weight, fresh().spare.weight)


def test_without_any_gradient_nothing_is_stepped(recipe: TrainingConfig) -> None:
    network = fresh()

    FusedOptimizer(list(network.parameters()), recipe).step()

    assert same(network, fresh())


def test_another_optimizer_goes_on_from_the_tensors_of_one_to_the_last_bit(recipe: TrainingConfig) -> None:
    whole, network = fresh(), fresh()
    train(whole, by_us(FusedOptimizer(list(whole.parameters()), recipe)), range(6))

    first = FusedOptimizer(list(network.parameters()), recipe)
    train(network, by_us(first), range(3))
    held = {name: value.clone().contiguous() for name, value in first.tensors().items()}
    second = FusedOptimizer(list(network.parameters()), recipe)
    second.restore(held)
    train(network, by_us(second), range(3, 6))

    assert same(whole, network)


def test_state_that_a_checkpoint_does_not_have_has_not_begun() -> None:
    """`torch.optim`, which wrote earlier checkpoints, has no state of a parameter that had no gradient yet."""
    network = fresh()
    recipe = TrainingConfig.model_validate(RECIPES["adamw"])
    optimizer = FusedOptimizer(list(network.parameters()), recipe)
    train(network, by_us(optimizer), range(2))

    optimizer.restore({})

    assert all(bool((value == 0).all()) for value in optimizer.tensors().values())


def test_state_of_another_optimizer_is_refused_and_changes_nothing() -> None:
    network = fresh()
    optimizer, other = (
        FusedOptimizer(list(network.parameters()), TrainingConfig.model_validate(RECIPES[name]))
        for name in ("adamw", "sgd")
    )
    train(network, by_us(optimizer), range(2))
    before = {name: value.clone() for name, value in optimizer.tensors().items()}
    names = list(before)
    held = {**before, **other.tensors(), names[0]: torch.ones_like(before[names[0]])}

    with pytest.raises(CheckpointError, match=r"optimizer\.0\.momentum_buffer .* no parameter here has"):
        optimizer.restore(held)

    assert all(torch.equal(value, before[name]) for name, value in optimizer.tensors().items())
