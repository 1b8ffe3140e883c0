"""Members of every space that ships as networks: built, run, counted. The cost model is held to what torch counts."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given
from measured_networks import measured
from shipped_spaces import NAMES, constraints, drawn, example_shape, feasible, few, on_meta, seeds
from torch import nn

from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.nets.builder import Network, build
from nasflow_cli.nets.cost import cost

every_space = pytest.mark.parametrize("name", NAMES)
SIZES = (16, 11, 8)


@cache
def smallest(name: str) -> NetworkGraph:
    """The one of some members that may be trained that takes the fewest FLOPs."""
    graphs = [feasible(name, seed)[1] for seed in range(6)]
    return min(graphs, key=lambda graph: constraints(name).cost(graph).flops)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def unread_cells(network: Network) -> set[int]:
    """The cells of which nothing reaches the classifier: both cells behind them look past them, as DARTS's can."""
    cells = [module.cell for module in network.cells]
    alive = {len(cells) - 1}
    for number in range(len(cells) - 1, 0, -1):
        if number in alive:
            read = {*cells[number].output, *cells[number].added}.union(*(node.inputs for node in cells[number].nodes))
            alive.update(max(number - 1 - value, 0) for value in read if value < cells[number].num_inputs)
    return set(range(len(cells))) - alive


@every_space
@few(2)
@given(seed=seeds)
def test_a_member_is_built_on_the_meta_device_and_gives_logits(name: str, seed: int) -> None:
    shape = example_shape(name, 9)
    network = on_meta(drawn(name, seed)[1], shape, 7)

    assert all(parameter.is_meta for parameter in network.parameters())
    with torch.device("meta"), torch.no_grad():
        assert network(torch.empty(2, *shape)).shape == (2, 7)


@every_space
@few(3)
@given(seed=seeds)
def test_a_member_costs_what_torch_counts_on_it(name: str, seed: int) -> None:
    graph, shape = drawn(name, seed)[1], example_shape(name, 17)

    assert cost(graph, shape, 10) == measured(graph, shape, 10)


@every_space
def test_a_member_has_finite_gradients_at_three_input_sizes(name: str) -> None:
    for size in SIZES:
        shape = example_shape(name, size)
        network = build(smallest(name), shape, 5, seed=0)

        loss = nn.functional.cross_entropy(network(noise(4, *shape)), torch.arange(4))
        loss.backward()

        assert loss.isfinite()
        unread = tuple(f"cells.{number}." for number in unread_cells(network))
        for key, parameter in network.named_parameters():
            # What stands behind a `none` and is built all the same has gradients as well: zeros.
            assert (parameter.grad is None) == key.startswith(unread), key
            assert parameter.grad is None or parameter.grad.isfinite().all()
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@every_space
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    graph, shape = smallest(name), example_shape(name, 8)
    torch.manual_seed(1)
    one = build(graph, shape, 5, seed=3)
    torch.manual_seed(2)
    same, other = build(graph, shape, 5, seed=3), build(graph, shape, 5, seed=4)

    pairs = list(zip(one.parameters(), same.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
