"""Whether networks can be trained on one example at a time: refuses batches for which they cannot. Trains nothing.

A batch norm takes the mean and the deviation of each channel over the batch and the resolution. Of one value there is
no deviation, and torch refuses to train on it: so it is with one vector, and with one image whose map is 1x1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.nets.builder import build

SAMPLES = 20
"""Members that are looked at."""


def check_batches(
    recipe: TrainingConfig, num_train: int, graphs: Sequence[NetworkGraph], input_shape: Sequence[int], num_classes: int
) -> None:
    """Raise ConfigError where trials would fail because a batch holds one example; `graphs` are sampled members."""
    if min(recipe.batch_size, num_train) > 1 or not needs_two_examples(graphs[:SAMPLES], input_shape, num_classes):
        return
    raise ConfigError(
        "training.batch_size: with one example in a batch, a batch norm of these networks has one value a channel, of "
        "which there is no deviation; set it to 2 or more"
        + ("" if num_train > 1 else ", and data.train_limit too: there is one training example")
    )


def needs_two_examples(graphs: Iterable[NetworkGraph], input_shape: Sequence[int], num_classes: int) -> bool:
    """Whether a batch norm of one of these networks would see one value a channel in a batch of one example.

    Each is built, and run once on the CPU: at which resolution a norm stands, also in an operation of a user's own,
    is so known exactly.
    """
    return any(_has_lone_value(build(graph, input_shape, num_classes, seed=0), input_shape) for graph in graphs)


@torch.inference_mode()
def _has_lone_value(network: nn.Module, input_shape: Sequence[int]) -> bool:
    found: list[bool] = []

    def look(_norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0].numel() == given[0].shape[1])

    for module in network.eval().modules():  # as in training a norm would end the run instead
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(look)
    network(torch.zeros(1, *input_shape))
    return any(found)
