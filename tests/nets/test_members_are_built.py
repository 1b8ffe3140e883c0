"""Every member of every space becomes a network that can be trained, and costs what it is said to cost."""

from __future__ import annotations

import itertools
import random

import numpy as np
import torch
from described_spaces import DESCRIPTIONS, described
from hypothesis import given, settings
from hypothesis import strategies as st
from test_network_cost import measured
from torch import nn

from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.builder import CellModule, Network, build
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import operation_facts

SPACES: dict[str, SearchSpace] = {}


def member(name: str, seed: int) -> NetworkGraph:
    if name not in SPACES:
        SPACES[name] = described(DESCRIPTIONS[name], operation_facts())
    return SPACES[name].graph(SPACES[name].sample(np.random.default_rng(seed)))


names = st.sampled_from(sorted(DESCRIPTIONS))
seeds = st.integers(0, 2**32)


@settings(max_examples=25, deadline=None)
@given(name=names, seed=seeds, size=st.sampled_from([8, 12, 16]))
def test_a_member_costs_what_it_is_said_to(name: str, seed: int, size: int) -> None:
    graph = member(name, seed)
    assert cost(graph, (3, size, size), 5) == measured(graph, (3, size, size), 5)


@settings(max_examples=30, deadline=None)
@given(name=names, seed=seeds)
def test_a_member_has_logits_and_finite_gradients_at_every_size(name: str, seed: int) -> None:
    network = build(member(name, seed), (3, 8, 8), 5, seed=seed % 2**32)
    for size in (8, 12, 16):
        network.zero_grad()
        logits = network(torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0)))
        assert logits.shape == (4, 5)
        nn.functional.cross_entropy(logits, torch.arange(4)).backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


@settings(max_examples=15, deadline=None)
@given(name=names, seed=seeds)
def test_a_member_is_built_without_memory_on_the_meta_device(name: str, seed: int) -> None:
    with torch.device("meta"):
        network = Network(member(name, seed), (3, 8, 8), 5)
    assert all(parameter.is_meta for parameter in network.parameters())


def test_cells_of_one_key_compute_the_same_when_they_share_their_weights() -> None:
    cell = Cell((Node("conv3x3", (0,), "relu"), Node("conv1x1", (0,), "gelu"), Node("conv3x3", (1, 2), "relu")), (0, 3))
    swapped = Cell(
        (Node("conv1x1", (0,), "gelu"), Node("conv3x3", (0,), "relu"), Node("conv3x3", (2, 1), "relu")), (3, 0)
    )
    place = {0: 1, 1: 0, 2: 2}
    a, b = CellModule(cell, 4, 4, 1).eval(), CellModule(swapped, 4, 4, 1).eval()
    for i, j in place.items():
        b.nodes[j].load_state_dict(a.nodes[i].state_dict())
    graphs = [NetworkGraph((Block("x", which, 4),), "relu", "default") for which in (cell, swapped)]
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    assert graphs[0].key() == graphs[1].key()
    assert torch.allclose(a(x), b(x), atol=1e-6)


def test_a_sum_counts_what_is_named_twice_twice() -> None:
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(CellModule(Cell((), (0, 0)), 2, 2, 1)(x), 2 * x)


def test_a_cell_from_which_nothing_leaves_gives_zeros() -> None:
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(CellModule(Cell((), ()), 2, 2, 1)(x), torch.zeros_like(x))


def test_a_depth_is_that_many_cells_with_weights_of_their_own() -> None:
    cell = Cell((Node("conv3x3", (0,), "relu", "kaiming_normal"),), (1,))
    network = build(
        NetworkGraph((Block("stem", cell, 4), Block("a", cell, 4, 1, 3)), "relu", "default"), (3, 8, 8), 5, seed=0
    )
    kernels = [module.nodes[0][1].weight for module in network.cells]
    assert [tuple(kernel.shape[:2]) for kernel in kernels] == [(4, 3), (4, 4), (4, 4), (4, 4)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(kernels[1:], 2))


def test_the_dropout_of_the_description_is_the_network_s() -> None:
    graph = member("free edges between nodes, residual or not, activations a stage", 0)
    dropouts = [module.p for module in build(graph, (3, 8, 8), 5, seed=0).modules() if isinstance(module, nn.Dropout)]
    assert dropouts == [0.1]


def test_the_input_of_a_member_reaches_its_logits_exactly_if_it_is_connected() -> None:
    found = set()
    rng = random.Random(0)
    for _ in range(60):
        graph = member("operations on free edges, the last node leaves", rng.randrange(2**32))
        network = build(graph, (3, 8, 8), 5, seed=1).eval()
        with torch.no_grad():
            spread = network(torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))).std(0).max().item()
        assert (spread > 1e-6) is graph.is_connected
        found.add(graph.is_connected)
    assert found == {True, False}
