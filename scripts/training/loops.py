"""The three loops. Each trains an epoch at a time and begins with the same weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.nets.builder import build
from nasflow_cli.train.data import Labelled, Splits
from nasflow_cli.train.feed import Images, Normalise
from nasflow_cli.train.schedule import Schedule
from nasflow_cli.train.trainer import Trainer
from training.networks import BY_HAND, copy_weights
from training.problem import NUM_CLASSES, Problem

SEED = 0


class Loop(Protocol):
    """Trains one network."""

    network: nn.Module

    def epoch(self, number: int) -> float:
        """Train epoch `number` (from 0) and return the mean loss."""


def written_by_hand(problem: Problem) -> nn.Module:
    """The network of `networks.py`, with the weights that the space's own network begins with."""
    network = BY_HAND[problem.name]()
    copy_weights(build(problem.graph, problem.input_shape, NUM_CLASSES, SEED), network)
    return network


def optimizer_of(network: nn.Module, recipe: TrainingConfig, **settings: Any) -> torch.optim.Optimizer:
    """The recipe's optimiser; matrices and kernels are decayed, vectors are not."""
    parameters = list(network.parameters())
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, **settings)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True, **settings)


class PillowImages(Dataset[tuple[Tensor, int]]):
    """Images that are changed one by one, as torchvision's RandomCrop, RandomHorizontalFlip, ToTensor, Normalize do."""

    def __init__(self, problem: Problem) -> None:
        self.images = np.ascontiguousarray(problem.images.transpose(0, 2, 3, 1))
        self.labels = problem.labels.tolist()
        self.crop, self.flip = problem.augment.crop, problem.augment.flip
        self.mean = torch.tensor(problem.mean).view(-1, 1, 1) / 255
        self.std = torch.tensor(problem.std).view(-1, 1, 1) / 255

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index])
        width, height = image.size
        image = ImageOps.expand(image, self.crop)
        left, top = random.randint(0, 2 * self.crop), random.randint(0, 2 * self.crop)  # noqa: S311
        image = image.crop((left, top, left + width, top + height))
        if self.flip and random.random() < 0.5:  # noqa: S311
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return pixels.sub_(self.mean).div_(self.std), self.labels[index]


class UsualLoop:
    """Single precision, contiguous, a DataLoader with two workers, and the loss read at each step.

    It neither clips gradients nor averages weights, as the other two do. Its workers live on between epochs, so that
    starting them is not measured.
    """

    def __init__(self, problem: Problem, device: torch.device) -> None:
        self.device = device
        self.network = written_by_hand(problem).to(device)
        self.optimizer = optimizer_of(self.network, problem.recipe)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=problem.recipe.label_smoothing)
        data: Dataset[Any]
        if len(problem.input_shape) == 1:
            vectors = (torch.from_numpy(problem.images) - torch.tensor(problem.mean)) / torch.tensor(problem.std)
            data = TensorDataset(vectors, torch.from_numpy(problem.labels))
        else:
            data = PillowImages(problem)
        self.loader = DataLoader(
            data,
            batch_size=problem.recipe.batch_size,
            shuffle=True,
            num_workers=2,
            drop_last=True,
            pin_memory=device.type == "cuda",
            persistent_workers=True,
        )

    def epoch(self, number: int) -> float:
        """Train epoch `number` and return the mean loss."""
        self.network.train()
        total = 0.0
        for batch, wanted in self.loader:
            images, labels = batch.to(self.device, non_blocking=True), wanted.to(self.device, non_blocking=True)
            self.optimizer.zero_grad()
            loss = self.criterion(self.network(images), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loader)


class HandLoop:
    """Everything resident, channels last, fused, and nothing read before the epoch's end; for these networks alone.

    The recipe is ours: warm-up, label smoothing, gradient clipping, averaged weights.
    """

    def __init__(self, problem: Problem, device: torch.device, precision: str) -> None:
        recipe = problem.recipe
        self.recipe, self.device, self.autocast = recipe, device, precision == "bfloat16"
        self.network = written_by_hand(problem).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = optimizer_of(self.network, recipe, fused=True)
        self.parameters = list(self.network.parameters())
        self.live = [value for value in self.network.state_dict().values() if value.is_floating_point()]
        self.average = [value.clone() for value in self.live]
        self.labels = torch.from_numpy(problem.labels).to(device)
        self.mean, self.scale = torch.tensor(problem.mean, device=device), 1 / torch.tensor(problem.std, device=device)
        self.crop, self.step = problem.augment.crop, 0
        self.is_image = len(problem.input_shape) == 3
        if not self.is_image:
            torch.set_num_threads(1)  # layers this small lose by more
        images = torch.from_numpy(problem.images)
        if self.is_image:
            border = (self.crop,) * 4
            images = nn.functional.pad(images, border).permute(0, 2, 3, 1).contiguous()
            self.padded = images.shape[2]
            self.images = images.view(-1, images.shape[3]).to(device)
        else:
            self.images = ((images.to(device) - self.mean) * self.scale).contiguous()

    def batch(self, chosen: Tensor) -> Tensor:
        """The chosen images, shifted and mirrored: one look-up of pixels, whose rows are their channels."""
        if not self.is_image:
            return self.images[chosen]
        num, size = len(chosen), self.padded - 2 * self.crop
        shifts = torch.randint(2 * self.crop + 1, (2, num, 1), device=self.device)
        columns = torch.arange(size, device=self.device)
        mirrored = torch.rand((num, 1), device=self.device) < 0.5
        across = torch.where(mirrored, columns.flip(0), columns) + shifts[0]
        down = (chosen.view(-1, 1) * self.padded + columns + shifts[1]) * self.padded
        pixels = self.images[(down[:, :, None] + across[:, None, :]).view(-1)]
        return ((pixels.float() - self.mean) * self.scale).view(num, size, size, -1).permute(0, 3, 1, 2)

    def epoch(self, number: int) -> float:
        """Train epoch `number` and return the mean loss."""
        self.network.train()
        size = self.recipe.batch_size
        order = torch.randperm(len(self.labels), device=self.device)
        steps = len(order) // size
        total = torch.zeros((), device=self.device)
        for chosen in torch.split(order[: steps * size], size):
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * min(
                    1.0, (self.step + 0.5) / max(1.0, self.recipe.warmup_epochs * steps)
                )
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                outputs = self.network(self.batch(chosen))
                loss = nn.functional.cross_entropy(
                    outputs, self.labels[chosen], label_smoothing=self.recipe.label_smoothing
                )
            loss.backward()  # type: ignore[no-untyped-call]
            if self.recipe.gradient_clip is not None:
                nn.utils.clip_grad_norm_(self.parameters, self.recipe.gradient_clip)
            self.optimizer.step()
            decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.live, 1 - decay)
                total += loss
            self.step += 1
        return float(total) / steps


class OurLoop:
    """`nasflow_cli.train.trainer` on the space's own network, as a search trains it."""

    def __init__(self, problem: Problem, device: torch.device, precision: str) -> None:
        data = Labelled(images=problem.images, labels=problem.labels)
        classes = tuple(map(str, range(NUM_CLASSES)))
        splits = Splits(
            train=data,
            validation=data,
            test=data,
            classes=classes,
            mean=problem.mean,
            std=problem.std,
            test_indices=None,
            features=(),
        )
        self.network: nn.Module = build(problem.graph, problem.input_shape, NUM_CLASSES, SEED)
        recipe = problem.recipe.model_copy(update={"precision": precision})
        self.trainer = Trainer(self.network, recipe, Normalise(splits, device), SEED, device)
        self.images, self.augment = Images.on(device, data), problem.augment
        self.rate = Schedule(recipe=recipe, budget=1000, horizon=1000).rate

    def epoch(self, number: int) -> float:
        """Train epoch `number` and return the mean loss."""
        return self.trainer.epoch(number, self.images, self.augment, self.rate)


LOOPS: Mapping[str, Callable[[Problem, torch.device, str], Loop]] = {
    "usual": lambda problem, device, _: UsualLoop(problem, device),
    "hand": HandLoop,
    "ours": OurLoop,
}
