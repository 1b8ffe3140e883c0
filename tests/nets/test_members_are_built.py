"""Every member of every space becomes a network that can be trained, and computes what its graph says."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from described_spaces import DESCRIPTIONS, described
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from measured_networks import graph_of, measured, node, single
from torch import Tensor, nn

from nasflow_cli.core.graph import Block, Cell, NetworkGraph
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.builder import CellModule, Network, Setting, build, closing_nodes
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import operation_facts

OTHERS: dict[str, dict[str, Any]] = {
    "arguments, a wide head, the activation after": {
        "stem": {"width": 4},
        "cells": {
            "block": {
                "nodes": 1,
                "per": "layer",
                "operations": ["skip", {"mbconv": {"kernel": [3, 5], "expansion": [1, 2], "se": [False, True]}}],
            }
        },
        "stages": [{"cell": "block", "depth": [1, 3], "width": [4, 6], "stride": 2, "transition": None}],
        "head": {"width": [8, 12]},
        "activation": {"choices": ["relu", "silu"], "per": "slot", "order": "after"},
        "initialisation": {"choices": ["zero_residual", "kaiming_normal"]},
    },
    "vectors": {
        "stem": {"operation": "linear", "width": [4, 6]},
        "cells": {
            "layer": {
                "nodes": [1, 2],
                "residual": [True, False],
                "operations": ["skip", "none", {"linear": {"norm": ["batch", "layer", "none"], "dropout": [0.0, 0.1]}}],
            }
        },
        "stages": [
            {"cell": "layer", "depth": [1, 2], "width": [4, 6], "transition": "linear"},
            {"cell": "layer", "width": 3, "transition": None},
        ],
        "initialisation": {"choices": ["zero_residual", "default"]},
    },
}
DESCRIBED = {**DESCRIPTIONS, **OTHERS}
SPACES: dict[str, SearchSpace] = {}


def member(name: str, seed: int) -> NetworkGraph:
    if name not in SPACES:
        SPACES[name] = described(DESCRIBED[name], operation_facts())
    return SPACES[name].graph(SPACES[name].sample(np.random.default_rng(seed)))


def shape_of(name: str, size: int) -> tuple[int, ...]:
    """The shape of one example for the members of a space."""
    return (size,) if DESCRIBED[name]["stem"].get("operation") == "linear" else (3, size, size)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


names = st.sampled_from(sorted(DESCRIBED))
seeds = st.integers(0, 2**32)


@settings(max_examples=40, deadline=None)
@given(name=names, seed=seeds, size=st.sampled_from([8, 12, 15]))
def test_a_member_costs_what_it_is_said_to(name: str, seed: int, size: int) -> None:
    graph, shape = member(name, seed), shape_of(name, size)
    assert cost(graph, shape, 5) == measured(graph, shape, 5)


@settings(max_examples=40, deadline=None)
@given(name=names, seed=seeds)
def test_a_member_has_logits_and_finite_gradients_at_every_size(name: str, seed: int) -> None:
    graph = member(name, seed)
    assume(graph.flaw is None)  # as a chain with a cell that nothing reads, which would get no gradients
    for size in (8, 15):
        shape = shape_of(name, size)
        network = build(graph, shape, 5, seed=seed % 2**32)
        logits = network(noise(4, *shape))
        assert logits.shape == (4, 5)
        nn.functional.cross_entropy(logits, torch.arange(4)).backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in network.parameters()]
        assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


@settings(max_examples=15, deadline=None)
@given(name=names, seed=seeds)
def test_a_member_is_built_without_memory_on_the_meta_device(name: str, seed: int) -> None:
    with torch.device("meta"):
        network = Network(member(name, seed), shape_of(name, 8), 5)
    assert all(parameter.is_meta for parameter in network.parameters())


def test_cells_of_one_key_compute_the_same_when_they_share_their_weights() -> None:
    one, other, last = (node("conv3x3", 0), node("conv1x1", 0, act="gelu"), node("conv3x3", 1, 2))
    cell = Cell((one, other, last), (0, 3))
    swapped = Cell((other, one, node("conv3x3", 2, 1)), (3, 0))
    a, b = (CellModule(which, (8,), Setting()).eval() for which in (cell, swapped))
    for i, j in {0: 1, 1: 0, 2: 2}.items():
        b.nodes[j].load_state_dict(a.nodes[i].state_dict())
    x = noise(2, 8, 6, 6)
    assert graph_of(Block("x", cell)).key() == graph_of(Block("x", swapped)).key()
    assert torch.allclose(a(x), b(x), atol=1e-6)


def test_a_sum_counts_what_is_named_twice_twice() -> None:
    x = noise(1, 2, 3, 3)
    assert torch.equal(CellModule(Cell((), (0, 0)), (2,), Setting())(x), 2 * x)


@pytest.mark.parametrize("num_inputs", [1, 2])
def test_a_cell_from_which_nothing_leaves_gives_zeros(num_inputs: int) -> None:
    x, y = noise(1, 2, 3, 3), torch.ones(1, 5, 6, 6)
    assert torch.equal(CellModule(Cell((), (), num_inputs), (2, 5), Setting())(x, y), torch.zeros_like(x))


def test_a_depth_is_that_many_cells_with_weights_of_their_own() -> None:
    def cell(width: int) -> Cell:
        return single("conv3x3", width=width, init="kaiming_normal")

    network: Any = build(
        graph_of(Block("stem", cell(4)), Block("a", cell(6)), Block("a", cell(6), 3)), (3, 8, 8), 5, seed=0
    )
    kernels = [module.nodes[0][1].weight for module in network.cells]
    assert [tuple(kernel.shape[:2]) for kernel in kernels] == [(4, 3), (6, 4), (6, 6), (6, 6), (6, 6)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(kernels[2:], 2))


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
            spread = network(noise(6, 3, 8, 8)).std(0).max().item()
        assert (spread > 1e-6) is graph.is_connected
        found.add(graph.is_connected)
    assert found == {True, False}


Computation = Callable[[nn.ModuleList, Tensor, Tensor], Tensor]
NEAR, FAR = (8, 9, 9), (5, 9, 9)
WRITTEN: dict[str, tuple[Cell, tuple[int, ...], Computation]] = {
    "a chain and a residual": (
        Cell((node("conv3x3", 0), node("conv1x1", 1)), (0, 2)),
        FAR,
        lambda n, x, _: x + n[1](n[0](x)),
    ),
    "a node that is read twice": (
        Cell((node("conv3x3", 0), node("conv1x1", 0, 1, 1)), (1, 2)),
        FAR,
        lambda n, x, _: (a := n[0](x)) + n[1](x + a + a),
    ),
    "two inputs and a concatenation, as DARTS": (
        Cell(
            (
                node("conv1x1", 0),
                node("conv1x1", 1),
                node("sep_conv3x3", 2),
                node("max_pool3x3", 3),
                node("dil_conv3x3", 3),
                node("skip", 4, 5),
                node("conv3x3", 7, 6),
            ),
            (6, 7, 8),
            num_inputs=2,
            join="concat",
        ),
        FAR,
        lambda n, x, y: torch.cat([c := n[4](b := n[1](y)), d := n[2](n[0](x)) + n[3](b), n[6](d + c)], 1),
    ),
    "the far input alone, which is finer": (
        Cell((node("skip", 1, stride=2, act="relu"), node("conv3x3", 2)), (3, 2), num_inputs=2),
        (5, 18, 18),
        lambda n, _, y: n[1](a := n[0](y)) + a,
    ),
    "both inputs are added": (
        Cell((node("conv3x3", 0),), (2, 0, 1), num_inputs=2),
        NEAR,
        lambda n, x, y: n[0](x) + x + y,
    ),
    "a concatenation to which the input is added": (
        Cell((node("conv3x3", 0, width=3), node("conv1x1", 0, width=5)), (2, 1), join="concat", added=(0,)),
        FAR,
        lambda n, x, _: torch.cat([n[1](x), n[0](x)], 1) + x,
    ),
    "a concatenation of one": (
        Cell((node("conv3x3", 0),), (1,), join="concat", added=(0, 0)),
        FAR,
        lambda n, x, _: n[0](x) + x + x,
    ),
    "nothing but what is added": (
        Cell((node("conv3x3", 0), node("conv1x1", 0)), (), join="concat", added=(1, 2)),
        FAR,
        lambda n, x, _: n[0](x) + n[1](x),
    ),
    "shares of the width, the first channels for a narrower reader, as NAS-Bench-101": (
        Cell(
            (
                node("conv1x1", 0, width=5),
                node("conv3x3", 1, width=5),
                node("conv3x3", 1, 2, width=3),
                node("conv1x1", 0, width=8),
            ),
            (2, 3),
            join="concat",
            added=(4,),
            cut=True,
        ),
        FAR,
        lambda n, x, _: torch.cat([b := n[1](a := n[0](x)), n[2](a[:, :3] + b[:, :3])], 1) + n[3](x),
    ),
}


def shaken(module: nn.Module) -> Any:
    """In evaluation, with norms that do not pass their input on as it is."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            values: Any
            for values in (layer.weight.data, layer.bias.data, layer.running_mean):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return module.eval()


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_cell_computes_what_is_written_by_hand(name: str, order: Any) -> None:
    cell, far, written = WRITTEN[name]
    x, y = noise(2, *NEAR), noise(2, *far) + 1.0
    module = CellModule(cell, (NEAR[0], far[0]), Setting(order=order))
    assert isinstance(shaken(module), CellModule)

    with torch.inference_mode():
        found, expected = module(x, y), written(module.nodes, x, y)

    assert found.std() > 0.1
    torch.testing.assert_close(found, expected)


def test_a_cell_of_vectors_computes_what_is_written_by_hand() -> None:
    cell = Cell((node("linear", 0), node("skip", 0, width=8), node("linear", 0, 1, norm="layer")), (0, 2, 3))
    module = CellModule(cell, (8,), Setting(vectors=True))
    n, x = shaken(module).nodes, noise(4, 8)
    torch.testing.assert_close(module(x), x + x + n[2](x + n[0](x)))


def test_cells_of_two_inputs_read_the_two_cells_before_them_and_both_times_the_stem_at_first() -> None:
    two = Cell((node("conv3x3", 0, width=4), node("conv1x1", 1, width=4)), (2, 3), num_inputs=2)
    coarser = Cell(
        (node("conv3x3", 0, width=6, stride=2), node("skip", 1, width=6, stride=2, act="relu")), (2, 3), num_inputs=2
    )
    fine = Cell((node("conv3x3", 0, width=6), node("skip", 1, width=6, stride=2, act="relu")), (2, 3), num_inputs=2)
    blocks = (Block("stem", single("conv3x3", width=4)), Block("a", two, 3), Block("b", coarser), Block("b", fine))
    network: Any = build(graph_of(*blocks), (3, 8, 8), 5, seed=0)
    x = noise(2, 3, 8, 8)
    shaken(network)
    stem, *cells = network.cells

    values = [stem(x)]
    values.append(cells[0](values[0], values[0]))
    for cell in cells[1:]:
        values.append(cell(values[-1], values[-2]))

    assert [tuple(value.shape[1:]) for value in values] == [(4, 8, 8)] * 4 + [(6, 4, 4)] * 2
    torch.testing.assert_close(network(x), network.head(values[-1]))


def test_a_cell_of_one_input_among_those_of_two_counts_as_one_of_the_two_before() -> None:
    two = Cell((node("conv3x3", 0, width=4), node("conv1x1", 1, width=4)), (2, 3), num_inputs=2)
    stem, middle = Block("stem", single("conv3x3", width=4)), Block("t", single("conv1x1", width=4))
    network: Any = build(graph_of(stem, Block("a", two), middle, Block("b", two)), (3, 8, 8), 5, seed=0)
    shaken(network)
    start, first, between, last = network.cells
    x = noise(2, 3, 8, 8)

    a = first(s := start(x), s)

    torch.testing.assert_close(network(x), network.head(last(between(a), a)))


KINDS = {"images": (nn.Conv2d, nn.BatchNorm2d, (3, 8, 8)), "vectors": (nn.Linear, nn.BatchNorm1d, (7,))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["norm", "act"]),
        ({"order": "after"}, ["norm", "act"]),
        ({"activation": None}, []),
        ({"head_width": 12}, ["norm", "act", "project", "norm", "act"]),
        ({"head_width": 12, "order": "after"}, ["project", "norm", "act"]),
        ({"head_width": 12, "order": "after", "activation": None}, ["project", "norm"]),
        ({"dropout": 0.25}, ["norm", "act", "drop"]),
    ],
    ids=str,
)
def test_a_head_is_put_together_as_described(kind: str, given: dict[str, Any], expected: list[str]) -> None:
    project, norm, shape = KINDS[kind]
    stem = Block("stem", single("conv3x3" if kind == "images" else "linear"))
    head: Any = build(graph_of(stem, **{"activation": "gelu", **given}), shape, 5, seed=0).head
    words = {project: "project", norm: "norm", nn.GELU: "act", nn.Dropout: "drop"}
    pooled = [nn.AdaptiveAvgPool2d, nn.Flatten] if kind == "images" else []

    kinds = [type(layer) for layer in head[:-1]]

    assert [words[layer] for layer in kinds if layer not in pooled] == expected
    assert [layer for layer in kinds if layer in pooled] == pooled
    last = head[-1]
    assert isinstance(last, nn.Linear)
    assert (last.in_features, last.out_features) == (given.get("head_width", 8), 5)


def test_a_head_computes_what_is_written_by_hand() -> None:
    graph = graph_of(Block("stem", single("conv3x3")), activation="tanh", head_width=12, order="after", dropout=0.5)
    head: Any = build(graph, (3, 8, 8), 5, seed=0).head
    x = noise(2, 8, 6, 6)
    project, norm, *_, last = shaken(head)
    expected = last(torch.tanh(norm(torch.einsum("nchw,oc->nohw", x, project.weight[:, :, 0, 0]))).mean((2, 3)))
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize(
    ("operation", "order", "expected"),
    [
        ("conv3x3", "before", [nn.ReLU, nn.Conv2d, nn.BatchNorm2d]),
        ("conv3x3", "after", [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]),
        ("linear", "before", [nn.ReLU, nn.Linear, nn.BatchNorm1d]),
        ("linear", "after", [nn.Linear, nn.BatchNorm1d, nn.ReLU]),
    ],
)
def test_the_order_of_a_graph_is_that_of_its_nodes(operation: str, order: str, expected: list[type[nn.Module]]) -> None:
    shape = (7,) if operation == "linear" else (3, 8, 8)
    network: Any = build(graph_of(Block("stem", single(operation)), order=order), shape, 5, seed=0)
    assert [type(layer) for layer in network.cells[0].nodes[0]] == expected


def test_a_description_with_the_activation_after_reaches_the_network_and_one_before_spares_the_stem() -> None:
    space = {**DESCRIBED["two cells, one of them without edges to choose"]}
    for order, stem in (("before", [nn.Conv2d, nn.BatchNorm2d]), ("after", [nn.Conv2d, nn.BatchNorm2d, nn.ReLU])):
        graph = described(
            {**space, "activation": {"choices": "relu", "order": order}}, operation_facts()
        ).sample_member(np.random.default_rng(0))[1]
        network: Any = build(graph, (3, 8, 8), 5, seed=0)
        assert [type(layer) for layer in network.cells[0].nodes[0]] == stem


def zeroed(module: CellModule) -> set[int]:
    """The nodes of a cell that give nothing, whatever they read."""
    return {
        position
        for position, operation in enumerate(module.nodes)
        if any(
            isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d) and not bool(layer.weight.any())
            for layer in operation.modules()
        )
    }


def zeroing(*inputs: int, width: int = 8, operation: str = "conv3x3") -> Any:
    return node(operation, *inputs, width=width, init="zero_residual")


CLOSING: dict[str, tuple[Cell, set[int]]] = {
    "the last of a chain": (Cell((zeroing(0), zeroing(1)), (0, 2)), {1}),
    "all that leave": (Cell((zeroing(0), zeroing(0), zeroing(1)), (0, 2, 3)), {1, 2}),
    "one that leaves and is read": (Cell((zeroing(0), zeroing(1)), (0, 1, 2)), {0, 1}),
    "none without a residual": (Cell((zeroing(0), zeroing(1)), (2,)), set()),
    "parts of a concatenation to which the input is added": (
        Cell((zeroing(0), zeroing(1, width=3), zeroing(1, width=5)), (2, 3), join="concat", added=(0,)),
        {1, 2},
    ),
    "none beside an input that is a part": (Cell((zeroing(0), zeroing(1)), (0, 2), join="concat"), set()),
    "the far input is added": (Cell((zeroing(0), zeroing(2)), (1, 3), num_inputs=2), {1}),
    "none where a projection is added, which is no input": (
        Cell((zeroing(0, operation="conv1x1"), zeroing(0)), (2,), join="concat", added=(1,)),
        set(),
    ),
}


@pytest.mark.parametrize("name", CLOSING)
def test_zero_residual_zeroes_exactly_the_nodes_that_close_a_branch_around_an_input(name: str) -> None:
    cell, closing = CLOSING[name]
    module = CellModule(cell, (8, 8), Setting())
    assert closing_nodes(cell) == closing
    assert zeroed(module) == closing


def test_a_residual_cell_starts_as_its_input_with_zero_residual_alone() -> None:
    x = noise(2, 8, 6, 6)
    for initialisation, same in (("zero_residual", True), ("kaiming_normal", False)):
        nodes = (node("conv3x3", 0, init=initialisation), node("sep_conv3x3", 1, init=initialisation))
        for cell in (Cell(nodes, (0, 2)), Cell(nodes, (2,), join="concat", added=(0,))):
            assert torch.equal(CellModule(cell, (8,), Setting())(x), x) is same
