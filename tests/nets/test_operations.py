"""Operations: the shapes that they promise, the facts that they declare, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import described_spaces
import pytest
import torch
from torch import nn

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import OperationFacts
from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.activations import activation
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import Slot, operation_facts

SHIPPED = sorted(name for name in OPERATIONS if name != "linear")  # of images
WEIGHTED = [name for name in SHIPPED if OPERATIONS[name].facts.get("weighted")]


def made(name: str, channels_in: int, channels: int, stride: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    slot = Slot(in_channels=channels_in, channels=channels, stride=stride, activation=act)
    return OPERATIONS[name].make(slot).eval()


def test_what_ships_declares_these_facts() -> None:
    facts = operation_facts()
    assert {name: facts[name] for name in SHIPPED} == described_spaces.FACTS


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (1, 1), (3, 5)], ids=str)
@pytest.mark.parametrize("name", SHIPPED)
def test_every_operation_keeps_the_resolution_at_stride_1(name: str, size: tuple[int, int]) -> None:
    assert made(name, 5, 5, 1)(torch.randn(2, 5, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (1, 1), (3, 5)], ids=str)
@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in ("none", "skip")])
def test_every_operation_that_does_something_halves_the_resolution_at_stride_2(
    name: str, size: tuple[int, int]
) -> None:
    halved = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    assert made(name, 5, 5, 2)(torch.randn(2, 5, *size)).shape == (2, 5, *halved)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", WEIGHTED)
def test_an_operation_with_weights_gives_the_channels_that_are_asked_for(name: str, stride: int) -> None:
    assert made(name, 3, 7, stride)(torch.randn(1, 3, 8, 8)).shape == (1, 7, 8 // stride, 8 // stride)


@pytest.mark.parametrize("name", SHIPPED)
def test_an_operation_has_weights_exactly_if_it_says_so(name: str) -> None:
    has = any(isinstance(module, (nn.Conv2d, nn.Linear)) for module in made(name, 4, 4, 1).modules())
    assert has is operation_facts()[name].weighted


@pytest.mark.parametrize("name", SHIPPED)
def test_an_operation_has_an_activation_exactly_if_it_says_so(name: str) -> None:
    has = any(isinstance(module, nn.Mish) for module in made(name, 4, 4, 1, nn.Mish).modules())
    assert has is operation_facts()[name].activated


def test_an_average_at_the_border_does_not_count_the_padding() -> None:
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(made("avg_pool3x3", 1, 1, 1)(ones), ones)


def test_a_dilated_convolution_sees_five_pixels_a_side() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[..., 4, 4] = 1.0
    kernel = made("dil_conv3x3", 1, 1, 1, nn.Identity)[1]
    seen = kernel(image)[0, 0].nonzero()
    assert (seen.min().item(), seen.max().item(), len(seen)) == (2, 6, 9)


def test_the_identity_passes_on_and_the_zero_does_not() -> None:
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(made("skip", 2, 2, 1)(x), x)
    assert torch.equal(made("none", 2, 2, 1)(x), torch.zeros_like(x))


def test_a_fact_that_does_not_exist_is_refused_with_the_near_one(plugin: Callable[[str, str], None]) -> None:
    plugin(
        "misdeclared",
        "from nasflow_cli.core.registry import OPERATIONS\n"
        "@OPERATIONS.register('misdeclared', wieghted=True)\n"
        "def misdeclared(slot): ...\n",
    )
    with pytest.raises(ConfigError, match=r"'misdeclared' .* 'wieghted', .* did you mean 'weighted'\?"):
        operation_facts()


SHUFFLED = """
import torch
from torch import nn
from nasflow_cli.core.registry import OPERATIONS

@OPERATIONS.register("grouped_in_test", weighted=True, activated=True)
def grouped(slot):
    conv = nn.Conv2d(slot.in_channels, slot.channels, 3, slot.stride, 1, groups=2)
    return nn.Sequential(conv, slot.activation())
"""


def test_an_operation_of_a_plugin_works_in_a_space(plugin: Callable[[str, str], None]) -> None:
    plugin("shuffled", SHUFFLED)
    description = {
        "stem": {"width": 4},
        "cells": {"c": {"nodes": 1, "operations": ["grouped_in_test", "conv1x1"]}},
        "stages": [{"cell": "c", "width": 6, "stride": 2, "transition": "grouped_in_test"}],
        "initialisation": {"choices": "orthogonal"},
    }
    space: SearchSpace = described_spaces.described(description, operation_facts())
    graph = space.graph(space.complete({"c.1.operation": "grouped_in_test"}))
    network = build(graph, (3, 8, 8), 10, seed=0)
    assert operation_facts()["grouped_in_test"] == OperationFacts(weighted=True, activated=True)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    # 3x3 kernels over half of the channels, and biases: 4 to 6 channels, then 6 to 6
    own = (9 * 2 * 6 + 6) + (9 * 3 * 6 + 6)
    shipped = sum(p.numel() for p in network.cells[0].parameters()) + sum(p.numel() for p in network.head.parameters())
    assert cost(graph, (3, 8, 8), 10).params == own + shipped
    assert all(not network.cells[i].nodes[0][0].bias.any() for i in (1, 2))


def test_making_a_module_of_an_unknown_activation_says_what_is_near() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gelu'"):
        made("conv3x3", 2, 2, 1, partial(activation, "gelo"))
