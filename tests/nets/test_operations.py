"""Operations: the shapes that they promise, the facts that they declare, what they refuse, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import described_spaces
import pytest
import torch
from filled_slots import ARGUMENTS, SHIPPED, Case, cases
from torch import nn

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import OperationFacts
from nasflow_cli.core.registry import OPERATIONS, arguments_of
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.activations import activation
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import Slot, operation_facts

VARIANTS = cases()
CASES = [case for variant in VARIANTS.values() for case in variant]
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def adapts(case: Case) -> bool:
    """Whether the operation brings a projection here that it does not have everywhere."""
    facts = operation_facts()[case.name]
    return facts.adapts and (case.slot.changes_width or (facts.identity and case.slot.stride == 2))


def made(
    name: str,
    channels_in: int,
    channels: int,
    stride: int,
    act: Callable[[], nn.Module] = nn.ReLU,
    **arguments: Any,
) -> nn.Module:
    slot = Slot(in_channels=channels_in, channels=channels, stride=stride, activation=act)
    return OPERATIONS[name].make(slot, **arguments).eval()


def has(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(layer, kinds) for layer in module.modules())


def test_what_ships_declares_these_facts() -> None:
    facts = operation_facts()
    assert {name: facts[name] for name in SHIPPED} == described_spaces.FACTS


def test_every_argument_that_ships_is_tried_at_two_values() -> None:
    for name in SHIPPED:
        for argument in arguments_of(OPERATIONS[name]).values():
            assert {arguments.get(argument.name, argument.default) for arguments in ARGUMENTS[name]} != {
                argument.default
            }


@every_variant
def test_an_operation_gives_the_promised_shape_and_finite_gradients_at_every_size(variant: str) -> None:
    for case in VARIANTS[variant]:
        module = case.make()
        for x in case.inputs():
            module.zero_grad()
            y = module(x.requires_grad_())
            assert y.shape == case.shape(x), case
            (y * torch.arange(y.numel()).view(y.shape)).sum().backward()
            gradients = [tensor.grad for tensor in (x, *module.parameters())]
            assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients), case


@every_variant
def test_an_operation_computes_the_same_in_either_memory_layout_and_keeps_its_input(variant: str) -> None:
    for case in VARIANTS[variant]:
        if not case.slot.vectors:
            module, x = case.make().eval(), next(case.inputs())
            before = x.clone()
            expected = module(x)
            given = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
            torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(x, before), case


@pytest.mark.parametrize("size", [(7, 12), (3, 2)], ids=str)
@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "linear"])
def test_an_operation_halves_images_that_are_not_square(name: str, size: tuple[int, int]) -> None:
    halved = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    assert made(name, 5, 5, 2)(torch.randn(2, 5, *size)).shape == (2, 5, *halved)


@every_variant
def test_an_operation_has_weights_and_an_activation_exactly_where_it_says_so(variant: str) -> None:
    for case in VARIANTS[variant]:
        module, facts = case.make(), operation_facts()[case.name]
        weighted, activated = facts.weighted or adapts(case), facts.activated or adapts(case)
        assert (has(module, nn.Conv2d, nn.Linear), has(module, nn.SiLU)) == (weighted, activated), case


@every_variant
def test_no_convolution_has_a_bias_but_those_of_squeeze_excitation(variant: str) -> None:
    for case in VARIANTS[variant]:
        layers = case.make().modules()
        biased = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.bias is not None]
        assert len(biased) == 2 * bool(case.arguments.get("se")), case


def test_skip_and_the_pools_are_what_adapts() -> None:
    adapted = {"skip", "avg_pool3x3", "max_pool3x3", "avg_pool2x2", "max_pool2x2"}
    assert {case.name for case in CASES if adapts(case)} == adapted


def test_the_identity_passes_on_and_the_zero_does_not() -> None:
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(made("skip", 2, 2, 1)(x), x)
    assert torch.equal(made("none", 2, 2, 1)(x), torch.zeros_like(x))


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("conv", {"kernel": 4}, "kernel of 4 .* odd"),
        ("conv", {"kernel": -1}, "kernel of -1 .* odd"),
        ("conv", {"dilation": 0}, "dilation of 0"),
        ("conv", {"groups": 0}, "0 groups"),
        ("depthwise", {"kernel": 2}, "kernel of 2"),
        ("mbconv", {"expansion": 0}, "expansion of 0"),
        ("mbconv", {"kernel": 2}, "kernel of 2"),
        ("bottleneck", {"ratio": 0.0}, "ratio of 0"),
        ("bottleneck", {"ratio": float("nan")}, "ratio of nan"),
        ("bottleneck", {"groups": -2}, "-2 groups"),
        ("linear", {"norm": "bach"}, "did you mean 'batch'"),
        ("linear", {"dropout": 1.0}, "below 1, not 1"),
    ],
    ids=str,
)
def test_an_argument_that_cannot_be_built_is_refused(name: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(name, 4, 4, 1, **arguments)


@pytest.mark.parametrize(
    "wrong",
    [{"channels": 0}, {"in_channels": -1}, {"stride": 3}, {"stride": 2, "vectors": True}, {"order": "behind"}],
    ids=str,
)
def test_a_slot_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    fields = {"in_channels": 2, "channels": 2, "stride": 1, "activation": nn.ReLU}
    with pytest.raises(ValueError, match=r"slot|stands"):
        Slot(**{**fields, **wrong})


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("wieghted=True", r"'misdeclared' .* 'wieghted', .* did you mean 'weighted'\?"),
        ("weighted=1", "'misdeclared' .* weighted=1; say True or False"),
        ("takes='image'", r"'misdeclared' .* takes='image'; did you mean 'images'\?"),
        ("takes=['any']", "'misdeclared' .* say one of 'images', 'vectors', 'any'"),
    ],
)
def test_a_fact_that_cannot_be_is_refused(declared: str, said: str, plugin: Callable[[str, str], None]) -> None:
    plugin(
        "misdeclared",
        "from nasflow_cli.core.registry import OPERATIONS\n"
        f"@OPERATIONS.register('misdeclared', {declared})\n"
        "def misdeclared(slot): ...\n",
    )
    with pytest.raises(ConfigError, match=said):
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


def test_the_operation_that_the_documentation_adds_works(plugin: Callable[[str, str], None]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    plugin("documented", text.split("```python\n")[1].split("```")[0])
    assert operation_facts()["tall_conv"] == OperationFacts(weighted=True, activated=True)
    assert made("tall_conv", 3, 4, 2, kernel=5)(torch.randn(1, 3, 7, 8)).shape == (1, 4, 4, 4)


@every_variant
def test_every_operation_can_be_trained_in_bfloat16_on_a_cpu(variant: str) -> None:
    for case in VARIANTS[variant]:
        network = case.make().train()
        for x in case.inputs():
            with torch.autocast("cpu", torch.bfloat16):
                network(x.requires_grad_()).float().sum().backward()

        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
