"""Weights: their distribution, their seed, and that drawing them leaves the rest of the process alone."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from measured_networks import node, single
from torch import Tensor, nn

from nasflow_cli.core.graph import Block, Cell, NetworkGraph
from nasflow_cli.core.registry import ACTIVATIONS, INITIALISERS, OPERATIONS
from nasflow_cli.nets.activations import activation, gain
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.initialisers import initialise
from nasflow_cli.nets.operations import Slot

FAN_IN, FAN_OUT = 64 * 9, 256 * 9
RELU = math.sqrt(2)


def graph(initialisation: str = "kaiming_normal", act: str = "relu") -> NetworkGraph:
    given: dict[str, Any] = {"act": act, "init": initialisation}
    cell = Cell((node("conv3x3", 0, **given), node("sep_conv5x5", 0, 1, **given)), (1, 2))
    blocks = (Block("stem", single("conv1x1", **given)), Block("stages.0", cell, 2))
    return NetworkGraph(blocks, act, initialisation)


@pytest.fixture(scope="module")
def convolution() -> Callable[[str], Tensor]:
    """The weight of a large convolution behind a relu, from the named initialisation."""

    def make(name: str) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            layer = nn.Conv2d(64, 256, 3, bias=False)
            initialise(layer, name, "relu")
        return layer.weight.detach()

    return make


# 147,456 weights: the deviation of a sample's deviation is about 0.2 %.
@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("default", 1 / math.sqrt(3 * FAN_IN)),
        ("kaiming_normal", RELU / math.sqrt(FAN_IN)),
        ("kaiming_uniform", RELU / math.sqrt(FAN_IN)),
        ("xavier_normal", RELU * math.sqrt(2 / (FAN_IN + FAN_OUT))),
        ("xavier_uniform", RELU * math.sqrt(2 / (FAN_IN + FAN_OUT))),
        ("lecun_normal", 1 / math.sqrt(FAN_IN)),
        ("orthogonal", RELU / math.sqrt(FAN_IN)),
        ("zero_residual", RELU / math.sqrt(FAN_IN)),  # a convolution that ends no branch
        ("trunc_normal", 0.02 * 0.8796),  # what is left of the deviation of a normal that is cut at two of them
    ],
)
def test_the_deviation_is_the_one_that_is_stated(
    convolution: Callable[[str], Tensor], name: str, deviation: float
) -> None:
    weight = convolution(name)
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)
    assert weight.mean().item() == pytest.approx(0.0, abs=4 * deviation / math.sqrt(weight.numel()))


def test_each_initialisation_that_ships_has_its_deviation_tested() -> None:
    assert len(INITIALISERS._entries) == 9 + len(["dirac, which has none"])


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("default", 1 / math.sqrt(FAN_IN)),
        ("kaiming_uniform", RELU * math.sqrt(3 / FAN_IN)),
        ("xavier_uniform", RELU * math.sqrt(6 / (FAN_IN + FAN_OUT))),
        ("trunc_normal", 0.04),
    ],
)
def test_a_bounded_distribution_ends_at_its_bound(
    convolution: Callable[[str], Tensor], name: str, bound: float
) -> None:
    assert convolution(name).abs().max().item() == pytest.approx(bound, rel=1e-2)


def test_orthogonal_filters_are_orthogonal_and_as_long_as_the_gain(convolution: Callable[[str], Tensor]) -> None:
    filters = convolution("orthogonal").flatten(1)
    assert torch.allclose(filters @ filters.T, 2.0 * torch.eye(256), atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_a_dirac_convolution_passes_its_input_on_in_every_group(groups: int) -> None:
    layer = nn.Conv2d(8, 8, 5, padding=2, groups=groups)
    initialise(layer, "dirac", "relu")
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(layer(x), x)


def test_a_wider_dirac_convolution_passes_on_what_there_is_and_adds_zeros() -> None:
    layer = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False)
    initialise(layer, "dirac", "relu")
    x = torch.randn(1, 4, 5, 5)
    zero = torch.zeros(1, 1, 5, 5)
    assert torch.equal(layer(x), torch.cat([x[:, :2], zero, x[:, 2:], zero], 1))


def test_a_dirac_linear_layer_passes_its_input_on() -> None:
    layer = nn.Linear(5, 7)
    initialise(layer, "dirac", "relu")
    x = torch.randn(3, 5)
    assert torch.equal(layer(x), torch.cat([x, torch.zeros(3, 2)], 1))


@pytest.mark.parametrize("name", sorted({*INITIALISERS} - {"default"}))
def test_an_initialiser_changes_a_weight_of_either_kind_in_place_when_it_is_called_by_itself(name: str) -> None:
    for shape in ((6, 4), (6, 4, 3, 3), (6, 1, 3, 3)):
        weight = nn.Parameter(torch.full(shape, 7.0))
        with torch.no_grad():
            INITIALISERS[name].make(weight, RELU)
        assert not bool((weight == 7.0).any())
        assert bool(weight.any())


def closings(module: nn.Module) -> list[nn.Module]:
    """The norms whose weight is zero."""
    return [x for x in module.modules() if isinstance(x, nn.BatchNorm2d | nn.BatchNorm1d) and not bool(x.weight.any())]


def operation(name: str, stride: int = 1, order: Any = "before", width: int = 4, **arguments: Any) -> nn.Module:
    vectors = name == "linear"
    slot = Slot(in_channels=4, channels=width, stride=stride, activation=nn.ReLU, order=order, vectors=vectors)
    return OPERATIONS[name].make(slot, **arguments)


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("name", ["mbconv", "bottleneck", "basic_block"])
def test_a_block_starts_as_its_shortcut_whether_or_not_it_closes_another_branch(name: str, order: str) -> None:
    x = torch.rand(2, 4, 6, 6)
    for closes in (False, True):
        block = operation(name, order=order)
        initialise(block, "zero_residual", "relu", closes_branch=closes)
        assert len(closings(block)) == 1
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("name", ["bottleneck", "basic_block"])
def test_the_shortcut_of_a_block_is_not_zero(name: str) -> None:
    block = operation(name, stride=2, width=6)
    initialise(block, "zero_residual", "relu", closes_branch=True)
    assert torch.equal(block(x := torch.rand(2, 4, 6, 6)), block.shortcut(x))
    assert bool(block(x).any())


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("name", ["conv3x3", "darts_sep_conv3x3", "linear", "depthwise"])
def test_an_operation_that_closes_a_branch_starts_at_zero(name: str, order: str) -> None:
    module = operation(name, order=order)
    initialise(module, "zero_residual", "relu", closes_branch=True)
    x = torch.rand(3, 4) if name == "linear" else torch.rand(3, 4, 6, 6)
    assert len(closings(module)) == 1
    assert not bool(module(x).any())


def test_without_a_norm_the_last_layer_that_closes_a_branch_is_zero() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.PReLU(), nn.Linear(8, 4), nn.BatchNorm1d(4, affine=False))
    initialise(module, "zero_residual", "prelu", closes_branch=True)
    assert bool(module[0].weight.any())
    assert not bool(module[2].weight.any())


def test_an_operation_without_weights_may_close_a_branch() -> None:
    pool = operation("avg_pool3x3")
    initialise(pool, "zero_residual", None, closes_branch=True)
    assert pool(torch.ones(1, 4, 6, 6)).mean() == 1.0


@pytest.mark.parametrize("name", sorted({*INITIALISERS} - {"zero_residual"}))
def test_no_other_initialisation_zeroes_a_branch(name: str) -> None:
    for module in (operation("conv3x3"), operation("basic_block")):
        initialise(module, name, "relu", closes_branch=True)
        assert closings(module) == []


def test_the_default_leaves_every_number_as_it_was() -> None:
    module = operation("mbconv", se=True)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    initialise(module, "default", "relu", closes_branch=True)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_an_initialisation_of_a_plugin_may_zero_branches_and_be_called_by_group(
    plugin: Callable[[str, str], None],
) -> None:
    plugin(
        "countdown",
        "from torch import nn\nfrom nasflow_cli.core.registry import INITIALISERS\n"
        "@INITIALISERS.register('by_group_in_test', per_group=True, zero_branches=True)\n"
        "def by_group(weight, scale):\n"
        "    nn.init.constant_(weight, len(weight))\n",
    )
    module = operation("grouped_conv3x3", width=8)
    initialise(module, "by_group_in_test", "relu", closes_branch=True)
    assert bool((module[1].weight == 2.0).all())
    assert len(closings(module)) == 1


@pytest.mark.parametrize("name", sorted(INITIALISERS))
def test_a_bias_is_zero_but_by_default(name: str) -> None:
    layer = nn.Linear(8, 8)
    initialise(layer, name, None)
    assert bool(layer.bias.any()) is (name == "default")


@pytest.mark.parametrize(
    ("name", "factor"),
    [("relu", RELU), ("tanh", 1.5925), ("leaky_relu", math.sqrt(2 / (1 + 0.01**2))), ("selu", 1.0)],
)
def test_the_gain_of_an_activation_is_the_known_one(name: str, factor: float) -> None:
    # torch.nn.init.calculate_gain says 5/3 for tanh, from its slope at deep fixed points; ours is the second moment's.
    assert gain(name) == pytest.approx(factor, abs=1e-3)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_the_gain_keeps_the_second_moment_of_a_normal_input(name: str) -> None:
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        moment = (activation(name)().double()(z) * gain(name)).square().mean().item()
    assert moment == pytest.approx(1.0, abs=0.01)


def test_the_gain_is_a_number_also_where_networks_are_built_without_memory() -> None:
    gain.cache_clear()
    with torch.device("meta"):
        assert gain("relu") == pytest.approx(RELU, abs=1e-3)


def test_the_gain_of_no_activation_is_one(plugin: Callable[[str, str], None]) -> None:
    plugin(
        "straight",
        "from torch import nn\nfrom nasflow_cli.core.registry import ACTIVATIONS\n"
        "ACTIVATIONS.register('straight_in_test')(nn.Identity)\n",
    )
    assert gain("straight_in_test") == pytest.approx(1.0, abs=1e-6)


def weights(seed: int, act: str = "relu") -> list[Tensor]:
    return list(build(graph(act=act), (3, 8, 8), 10, seed).state_dict().values())


def digest(seed: int) -> str:
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in weights(seed))).hexdigest()


def test_the_same_seed_gives_the_same_weights_in_another_process() -> None:
    program = f"import sys; sys.path[:0] = {sys.path!r}; from test_weights import digest; print(digest(3))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == digest(3)


def test_another_seed_gives_other_weights_in_every_layer() -> None:
    networks = [build(graph(), (3, 8, 8), 10, seed) for seed in (0, 1)]
    pairs = [
        (a.weight, b.weight)
        for a, b in zip(networks[0].modules(), networks[1].modules(), strict=True)
        if isinstance(a, (nn.Conv2d, nn.Linear))
    ]
    assert len(pairs) == 1 + 2 * 3 + 1  # the stem, two copies of a convolution and a separable one, the classes
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_the_weights_do_not_depend_on_what_was_drawn_before() -> None:
    first = weights(5)
    torch.rand(100)
    assert all(torch.equal(a, b) for a, b in zip(first, weights(5), strict=True))


def test_building_leaves_the_global_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    build(graph(), (3, 8, 8), 10, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_building_leaves_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    build(graph(), (3, 8, 8), 10, seed=5)
    assert seeded == []


def test_an_activation_that_draws_its_parameters_is_built_the_same_the_first_time(
    plugin: Callable[[str, str], None],
) -> None:
    plugin(
        "drawing",
        "import torch\nfrom torch import nn\nfrom nasflow_cli.core.registry import ACTIVATIONS\n"
        "@ACTIVATIONS.register('drawn_in_test')\n"
        "class Drawn(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.slope = nn.Parameter(torch.rand(1))\n"
        "    def forward(self, x):\n"
        "        return self.slope * x\n",
    )
    first = weights(5, "drawn_in_test")
    assert all(torch.equal(a, b) for a, b in zip(first, weights(5, "drawn_in_test"), strict=True))
