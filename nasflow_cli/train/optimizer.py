"""SGD with Nesterov's momentum and AdamW: torch's fused kernels, on lists of tensors that are made once.

`torch.optim` sorts parameters, gradients and state into such lists anew at each step, and checks each of them: a tenth
of the step of a small network. The numbers are the same to the last bit, and so are the names in checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.train.checkpoint import CheckpointError

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
"""Those of Kingma and Ba 2015, Algorithm 1, and of `torch.optim`."""

_CLIP_EPS = 1e-6
"""That of `torch.nn.utils.clip_grad_norm_`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Parameters of one type that decay alike: one kernel steps them. `state` has a tensor for each under each name."""

    parameters: list[Tensor]
    decay: float
    state: dict[str, list[Tensor]]

    def with_gradients(self) -> tuple[_Group, list[Tensor]]:
        """What the loss depended on, and its gradients. The rest is not touched, as by `torch.optim`."""
        gradients = [parameter.grad for parameter in self.parameters]
        found = [gradient for gradient in gradients if gradient is not None]
        if len(found) == len(gradients):
            return self, found
        at = [place for place, gradient in enumerate(gradients) if gradient is not None]
        state = {name: [values[place] for place in at] for name, values in self.state.items()}
        return _Group(parameters=[self.parameters[place] for place in at], decay=self.decay, state=state), found


class FusedOptimizer:
    """Steps the parameters of one network, all on one device, at the rate `rate`."""

    def __init__(self, parameters: Sequence[nn.Parameter], recipe: TrainingConfig) -> None:
        self.rate = recipe.learning_rate
        self._recipe = recipe
        self._parameters = parameters
        # Norms, biases and other vectors are not decayed: shrinking them regularises nothing.
        self._numbered = sorted(parameters, key=lambda each: each.ndim <= 1)
        self._state = [_fresh_state(each, recipe) for each in self._numbered]
        self._groups = self._make_groups()

    def _make_groups(self) -> list[_Group]:
        alike: dict[tuple[bool, torch.dtype], list[int]] = {}
        for number, parameter in enumerate(self._numbered):
            alike.setdefault((parameter.ndim > 1, parameter.dtype), []).append(number)
        return [
            _Group(
                parameters=[self._numbered[number] for number in some],
                decay=self._recipe.weight_decay if is_decayed else 0.0,
                state={name: [self._state[number][name] for number in some] for name in self._state[some[0]]},
            )
            for (is_decayed, _), some in alike.items()
        ]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Clip the gradient as a whole where the recipe says so, and step."""
        ready = [group.with_gradients() for group in self._groups]
        if self._recipe.gradient_clip is not None:
            _clip([each.grad for each in self._parameters if each.grad is not None], self._recipe.gradient_clip)
        for group, gradients in ready:
            if not gradients:
                continue
            if self._recipe.optimizer == "adamw":
                self._adamw(group, gradients)
            else:
                self._sgd(group, gradients)

    def _adamw(self, group: _Group, gradients: list[Tensor]) -> None:
        torch._foreach_add_(group.state["step"], 1)
        torch._fused_adamw_(
            group.parameters,
            gradients,
            group.state["exp_avg"],
            group.state["exp_avg_sq"],
            [],
            group.state["step"],
            lr=self.rate,
            beta1=_BETA1,
            beta2=_BETA2,
            weight_decay=group.decay,
            eps=_EPS,
            amsgrad=False,
            maximize=False,
        )

    def _sgd(self, group: _Group, gradients: list[Tensor]) -> None:
        torch._fused_sgd_(
            group.parameters,
            gradients,
            group.state.get("momentum_buffer", []),
            weight_decay=group.decay,
            momentum=self._recipe.momentum,
            lr=self.rate,
            dampening=0.0,
            nesterov=self._recipe.momentum > 0,
            maximize=False,
            is_first_step=False,  # from a buffer of zeros the first step is the same
        )

    def tensors(self) -> dict[str, Tensor]:
        """All state, as `optimizer.NUMBER.NAME`: parameters are numbered from 0, those that decay first."""
        return {
            f"optimizer.{number}.{name}": value
            for number, state in enumerate(self._state)
            for name, value in state.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned; state that is not there has not begun.

        Raises CheckpointError, with nothing changed, for state of another optimiser or of other parameters.
        """
        own = self.tensors()
        for name, value in tensors.items():
            if name.startswith("optimizer.") and (name not in own or own[name].shape != value.shape):
                raise CheckpointError(f"the checkpoint has {name} {tuple(value.shape)}, which no parameter here has")
        for name, value in own.items():
            if name in tensors:
                value.copy_(tensors[name])
            else:
                value.zero_()


def _fresh_state(parameter: nn.Parameter, recipe: TrainingConfig) -> dict[str, Tensor]:
    """Zeros. Kernels take it that a moment lies in memory as its parameter does (channels last)."""
    if recipe.optimizer == "sgd":
        return {"momentum_buffer": torch.zeros_like(parameter).detach()} if recipe.momentum else {}
    moments = {name: torch.zeros_like(parameter).detach() for name in ("exp_avg", "exp_avg_sq")}
    return {**moments, "step": torch.zeros((), device=parameter.device)}


def _clip(gradients: list[Tensor], most: float) -> None:
    """Scale all gradients so that their norm is at most `most`; `clip_grad_norm_` without its checks."""
    if gradients:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, torch.clamp(most / (norm + _CLIP_EPS), max=1.0))
