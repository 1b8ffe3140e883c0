"""The training loop of one child. One class, no subclasses; no host synchronisation inside an epoch.

Everything random in an epoch is drawn from (seed, epoch, purpose), so a child that goes on from a checkpoint does what
it would have done uninterrupted. The rate of each step is given (see `schedule`); what is scored is a moving average of
the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.data_config import AugmentConfig
from nasflow_cli.core.seeds import Purpose, derived_seed, generator
from nasflow_cli.core.trial import ErrorKind
from nasflow_cli.train.augment import augment, mix
from nasflow_cli.train.checkpoint import CheckpointError
from nasflow_cli.train.feed import Feed, Normalise
from nasflow_cli.train.optimizer import FusedOptimizer
from nasflow_cli.train.schedule import Rate
from nasflow_cli.train.threads import at_most, is_small

Precision = Literal["float32", "bfloat16"]
"""What layers compute in while a network is trained; weights and scores are float32."""

Targets = tuple[Tensor, ...]
"""Labels (n,); of mixed images their own labels, those of the others, and the share of the first, each (n,)."""


class DivergedError(Exception):
    """Training produced a number that is not finite."""

    error_kind: ErrorKind = "nan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """`accuracy` is a share of 1; `loss` is the mean cross-entropy in nats."""

    accuracy: float
    loss: float


class Trainer:
    """Trains one network, an epoch at a time.

    With `parts` above 1 a batch goes through the network in so many parts, whose gradients are added up: less memory,
    and the same step but for layers that see a batch as a whole (batch norms).
    """

    parts: int = 1

    def __init__(
        self, network: nn.Module, recipe: TrainingConfig, normalise: Normalise, seed: int, device: torch.device
    ) -> None:
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.normalise = normalise
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._names = [name for name, value in self.network.state_dict().items() if value.is_floating_point()]
        self._average = {name: self._live()[name].detach().clone() for name in self._names}
        self._averages = list(self._average.values())
        self._places = [_place(self.network, name) for name in self._names]
        self._optimizer = FusedOptimizer(list(self.network.parameters()), recipe)
        self._most_threads = 1 if device.type == "cpu" and is_small(network, recipe.batch_size) else None
        self.precision: Precision = _precision(recipe, device, self.network)
        self._loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def _live(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.network.state_dict(keep_vars=True)
        return state

    def epoch(self, number: int, split: Feed, changes: AugmentConfig, rate: Rate) -> float:
        """Train epoch `number` (from 0) and return the mean loss. Raises DivergedError when it is not finite.

        `rate` gives the learning rate of each step.
        """
        with at_most(self._most_threads):
            mean = self._epoch(number, split, changes, rate)
        if not math.isfinite(mean):
            raise DivergedError(f"the training loss became {mean} in epoch {number + 1}")
        return mean

    def _epoch(self, number: int, split: Feed, changes: AugmentConfig, rate: Rate) -> float:
        self.network.train()
        shuffler = torch.Generator().manual_seed(derived_seed(self.seed, number, Purpose.ORDER))
        augmenter = torch.Generator(self.device).manual_seed(derived_seed(self.seed, number, Purpose.AUGMENT))
        torch.manual_seed(derived_seed(self.seed, number, Purpose.DROPOUT))
        order = torch.randperm(len(split), generator=shuffler)
        size = min(self.recipe.batch_size, len(split))
        steps = len(split) // size
        total = torch.zeros((), device=self.device)
        shares = self._shares(number, changes.mixup, len(split))
        for step, (chosen, raw) in enumerate(split.batches(order[: steps * size], size)):
            images = augment(raw, changes, augmenter)
            targets: Targets = (split.labels[chosen],)
            if shares is not None:
                mixed = mix(images, split.labels[chosen], shares[chosen], augmenter)
                images, targets = mixed.images, (split.labels[chosen], mixed.others, mixed.share)
            self._optimizer.rate = rate(number + (step + 0.5) / steps)
            total += self._step(self.normalise(images), targets, number * steps + step)
        return float(total) / steps

    def _shares(self, epoch: int, alpha: float, num: int) -> Tensor | None:
        """How much of each example is its own where examples are mixed, (n,); drawn at once, for the whole epoch."""
        if not alpha:
            return None
        drawn = generator(self.seed, epoch, Purpose.MIXUP).beta(alpha, alpha, num)
        return torch.from_numpy(drawn.astype(np.float32)).to(self.device)

    def _loss_of(self, outputs: Tensor, targets: Targets) -> Tensor:
        if len(targets) == 1:
            loss: Tensor = self._loss(outputs, *targets)
            return loss
        smoothing = self.recipe.label_smoothing
        own, others = (
            nn.functional.cross_entropy(outputs, labels, reduction="none", label_smoothing=smoothing)
            for labels in targets[:2]
        )
        return torch.lerp(others, own, targets[2].to(own.dtype)).mean()

    def _step(self, images: Tensor, targets: Targets, step: int) -> Tensor:
        self._optimizer.zero_grad()
        if self.parts == 1:
            loss = self._add_gradient(images, targets, len(images))
        else:
            parts = zip(*(each.chunk(self.parts) for each in (images, *targets)), strict=True)
            loss = reduce(torch.add, [self._add_gradient(some, tuple(wanted), len(images)) for some, *wanted in parts])
        self._optimizer.step()
        self._update_average(step)
        return loss

    def _add_gradient(self, images: Tensor, targets: Targets, of: int) -> Tensor:
        """Add the gradient of some examples `of` so many to what is there, and return their share of the mean loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss = self._loss_of(self.network(images), targets)
        if len(images) < of:
            loss = loss * (len(images) / of)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        # The decay starts low and rises, so that short rungs are not scored by their random start.
        decay = min(self.recipe.ema, (1 + step) / (10 + step)) if self.recipe.ema else 0.0
        torch._foreach_lerp_(self._averages, [held[name] for held, name in self._places], 1.0 - decay)

    @torch.no_grad()
    def evaluate(self, split: Feed, batch_size: int = 1024) -> Score:
        """Score the averaged weights, in single precision as they are handed over. Raises DivergedError for a NaN."""
        self.network.eval()
        weights = {**self.network.state_dict(), **self._average}
        size = max(1, batch_size // self.parts)
        outputs = torch.cat(
            [torch.func.functional_call(self.network, weights, (self.normalise(raw),)) for raw in split.in_turn(size)]
        )
        loss = float(nn.functional.cross_entropy(outputs, split.labels))
        if not math.isfinite(loss):
            raise DivergedError(f"the loss of its outputs is {loss}")
        return Score(accuracy=float((outputs.argmax(1) == split.labels).double().mean()), loss=loss)

    def tensors(self) -> dict[str, Tensor]:
        """All that `restore` needs: `model.*`, `average.*` and `optimizer.*`."""
        return {
            **{f"model.{name}": value for name, value in self.network.state_dict().items()},
            **{f"average.{name}": value for name, value in self._average.items()},
            **self._optimizer.tensors(),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned. Raises CheckpointError, with nothing changed, for another network's."""
        model, average = _under("model.", tensors), _under("average.", tensors)
        for found, own in ((model, self._live()), (average, self._average)):
            if {name: value.shape for name, value in found.items()} != {n: v.shape for n, v in own.items()}:
                raise CheckpointError("the checkpoint holds the weights of another network")
        self._optimizer.restore(tensors)
        self.network.load_state_dict(model)
        for name in self._names:
            self._average[name].copy_(average[name])


def scored_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that a score belongs to: the averaged ones, and what has no average (counters) as it is."""
    return {**_under("model.", tensors), **_under("average.", tensors)}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _place(network: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where the tensor `name` of a state is looked up; a module may put another tensor there at any time."""
    path, _, last = name.rpartition(".")
    owner = network.get_submodule(path)
    return (owner._parameters if last in owner._parameters else owner._buffers), last


def _precision(recipe: TrainingConfig, device: torch.device, network: nn.Module) -> Precision:
    if recipe.precision != "auto":
        return recipe.precision
    return "bfloat16" if _gains_from_bfloat16(device, network) else "float32"


def _gains_from_bfloat16(device: torch.device, network: nn.Module) -> bool:
    """By fixed rules, not by timing: the same machine always computes alike."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Layers of vectors are too small to gain: what is cast back and forth costs more.
    has_images = any(isinstance(module, nn.Conv2d) for module in network.modules())
    return device.type == "cpu" and has_images and computes_in_bfloat16()


def computes_in_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX). Older versions of torch cannot say: then not."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)
