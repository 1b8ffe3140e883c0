"""Weights: their distribution, their seed, and that drawing them leaves the rest of the process alone."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.registry import ACTIVATIONS, INITIALISERS
from nasflow_cli.nets.activations import activation, gain
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.initialisers import initialise

FAN_IN, FAN_OUT = 64 * 9, 256 * 9
RELU = math.sqrt(2)


def graph(initialisation: str = "kaiming_normal", act: str = "relu") -> NetworkGraph:
    cell = Cell((Node("conv3x3", (0,), act, initialisation), Node("sep_conv5x5", (0, 1), act, initialisation)), (1, 2))
    stem = Cell((Node("conv1x1", (0,), act, initialisation),), (1,))
    return NetworkGraph((Block("stem", stem, 8), Block("stages.0", cell, 8, 1, 2)), act, initialisation)


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
    assert len(INITIALISERS._entries) == 8


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
    assert len(pairs) == 1 + 2 * 3 + 1
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
