"""One example in a batch: the search says beforehand of which networks torch would refuse to train on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from described_spaces import DESCRIPTIONS

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.lone_example import check_batches, needs_two_examples
from nasflow_cli.nets.operations import operation_facts

VECTORS: dict[str, Any] = {
    "stem": {"operation": "linear", "width": 4},
    "cells": {"layer": {"nodes": 1, "operations": [{"linear": {"norm": ["batch", "layer"]}}]}},
    "stages": [{"cell": "layer", "width": 4, "transition": None}],
}
IMAGES = [name for name in DESCRIPTIONS if "linear" not in str(DESCRIPTIONS[name])][:6]
RECIPE = TrainingConfig(batch_size=1)


def members(space: dict[str, Any], num: int) -> list[NetworkGraph]:
    described = SearchSpace(SpaceConfig.model_validate(space, strict=False), operation_facts())
    graphs = [described.sample_member(np.random.default_rng(seed))[1] for seed in range(num)]
    return [graph for graph in graphs if graph.fault is None]


def torch_refuses(graph: NetworkGraph, input_shape: tuple[int, ...]) -> bool:
    try:
        build(graph, input_shape, 3, seed=0).train()(torch.zeros(1, *input_shape))
    except ValueError as error:
        assert "more than 1 value per channel" in str(error)  # noqa: PT017
        return True
    return False


@pytest.mark.parametrize(
    ("space", "input_shape"),
    [(VECTORS, (5,)), *((DESCRIPTIONS[name], (2, side, side)) for name in IMAGES for side in (1, 2, 3, 8))],
)
def test_what_is_said_beforehand_is_what_torch_does(space: dict[str, Any], input_shape: tuple[int, ...]) -> None:
    for graph in members(space, 4):
        assert needs_two_examples([graph], input_shape, 3) == torch_refuses(graph, input_shape)


def test_one_network_of_the_space_that_needs_two_examples_is_enough_to_refuse_batches_of_one() -> None:
    graphs = members(VECTORS, 2)

    with pytest.raises(ConfigError, match=r"^training\.batch_size: .*; set it to 2 or more$"):
        check_batches(RECIPE, 9, graphs, (5,), 3)
    with pytest.raises(ConfigError, match=r"and data\.train_limit too: there is one training example$"):
        check_batches(TrainingConfig(batch_size=8), 1, graphs, (5,), 3)
    check_batches(TrainingConfig(batch_size=2), 9, graphs, (5,), 3)


def test_batches_of_one_are_kept_where_every_norm_sees_a_whole_map() -> None:
    graphs = members(DESCRIPTIONS[IMAGES[0]], 4)

    check_batches(RECIPE, 9, graphs, (2, 8, 8), 3)
    with pytest.raises(ConfigError):
        check_batches(RECIPE, 9, graphs, (2, 2, 2), 3)
