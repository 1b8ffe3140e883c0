"""Networks as the arrays that the predictor reads."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scored_graphs import ENCODER, SPACE, SPOKEN, STEM, VOCABULARY, conv, encoded, graphs, network

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.predict.encode import EncodedGraph, Encoder, Vocabulary, batch
from nasflow_cli.predict.ranker import vocabulary_of


def edges(graph: EncodedGraph) -> list[tuple[int, int]]:
    return sorted(zip(*graph.edges.tolist(), strict=True))


def unordered(graph: EncodedGraph) -> list[object]:
    """What is left of a graph when its nodes have no order: each node with what feeds it, three steps deep."""
    labels: list[object] = [
        (*code, *scalar) for code, scalar in zip(graph.codes.tolist(), graph.scalars.tolist(), strict=True)
    ]
    for _ in range(3):
        fed: list[list[object]] = [[] for _ in labels]
        read: list[list[object]] = [[] for _ in labels]
        for source, target in edges(graph):
            fed[target].append(labels[source])
            read[source].append(labels[target])
        labels = [
            repr((label, sorted(map(repr, f)), sorted(map(repr, r))))
            for label, f, r in zip(labels, fed, read, strict=True)
        ]
    return sorted(map(str, labels))


def test_a_network_is_encoded_as_joins_and_nodes() -> None:
    graph = network(conv(0), conv(0, 1, operation="conv1x1"), output=(0, 2), depth=4, width=16, activation="gelu")

    found = ENCODER.encode(graph)

    conv3, conv1 = (VOCABULARY.operations.index(name) + 2 for name in ("conv3x3", "conv1x1"))
    relu, gelu, default = 2, 1, 1
    assert found.codes.tolist() == [
        [1, 0, 0],  # the stem's join
        [conv3, relu, default],
        [1, 0, 0],  # the stage's join
        [conv3, relu, default],
        [conv1, relu, default],
        [1, gelu, default],  # before the classifier
    ]
    assert edges(found) == [(0, 1), (1, 2), (2, 3), (2, 4), (2, 5), (3, 4), (4, 5)]
    assert found.scalars.tolist() == [
        [0, 0, 0, 0],
        [3, 1, 0, 0],  # width 8, stride 1, one copy, the first of two blocks
        [0, 0, 2, 0.5],  # four copies
        [4, 1, 2, 0.5],
        [4, 1, 2, 0.5],
        [0, 0, 0, 1],
    ]


def test_a_value_that_is_read_twice_has_two_edges() -> None:
    found = ENCODER.encode(network(conv(0, 0), output=(1, 1)))

    assert edges(found).count((2, 3)) == 2
    assert edges(found).count((3, 4)) == 2


@pytest.mark.parametrize("graph", graphs(20, seed=0))
def test_nodes_and_edges_are_as_many_as_the_network_has(graph: NetworkGraph) -> None:
    found = ENCODER.encode(graph)

    num_nodes = sum(1 + len(block.cell.nodes) for block in graph.blocks) + 1
    num_edges = sum(len(n.inputs) for block in graph.blocks for n in block.cell.nodes)
    num_edges += sum(len(block.cell.output) for block in graph.blocks)
    assert {block.cell.num_inputs for block in graph.blocks} == {1}
    assert found.codes.shape == (num_nodes, 3)
    assert found.scalars.shape == (num_nodes, 4)
    assert found.edges.shape == (2, num_edges)
    assert (found.edges[0] < found.edges[1]).all()
    assert (found.codes < np.array(VOCABULARY.sizes)).all()
    assert (found.codes[:, 0] == Encoder.JOIN).sum() == len(graph.blocks) + 1


def test_isomorphic_networks_are_encoded_alike_up_to_the_order_of_nodes() -> None:
    one = network(conv(0), conv(0, operation="conv1x1"), conv(1, 2), output=(3,))
    other = network(conv(0, operation="conv1x1"), conv(0), conv(2, 1), output=(3,))
    different = network(conv(0), conv(0, operation="conv1x1"), conv(1, 1), output=(2, 3))

    first, second, third = encoded([one, other, different])

    assert one.key() == other.key()
    assert unordered(first) == unordered(second)
    assert unordered(first) != unordered(third)


def test_different_networks_are_encoded_differently() -> None:
    networks = graphs(200, seed=1)

    assert len({str(unordered(found)) for found in encoded(networks)}) == 200


def test_a_batch_is_its_graphs_side_by_side() -> None:
    parts = encoded(graphs(7, seed=2))

    together = batch(parts)

    assert together.num_nodes.tolist() == [len(part.codes) for part in parts]
    nodes, reads = np.cumsum([0, *together.num_nodes]), np.cumsum([0, *(part.edges.shape[1] for part in parts)])
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(together.codes[nodes[i] : nodes[i + 1]], part.codes)
        np.testing.assert_array_equal(together.scalars[nodes[i] : nodes[i + 1]], part.scalars)
        np.testing.assert_array_equal(together.edges[:, reads[i] : reads[i + 1]] - nodes[i], part.edges)
    assert together.edges.shape[1] == reads[-1]
    assert together.codes.dtype == np.int64
    assert together.scalars.dtype == np.float32


@pytest.mark.parametrize("unknown", ["operation", "activation", "initialisation"])
def test_a_word_that_is_not_in_the_vocabulary_is_refused(unknown: str) -> None:
    words = {"operations": ("conv3x3",), "activations": ("relu",), "initialisations": ("default",)}

    encoder = Encoder(Vocabulary(**{**words, f"{unknown}s": ("something else",)}))

    with pytest.raises(KeyError):
        encoder.encode(network(conv(0)))


def test_the_vocabulary_is_every_word_that_a_node_of_the_space_can_carry() -> None:
    found = vocabulary_of(SPACE)

    assert found.operations == ("avg_pool3x3", "conv1x1", "conv3x3", "skip")
    assert found.activations == ("gelu", "relu")
    assert found.initialisations == ("default",)
    assert found.arguments == ()
    assert found.sizes == (6, 3, 2)
    assert found.num_scalars == 4


def test_the_vocabulary_has_what_projects_and_every_argument_that_the_description_names() -> None:
    found = vocabulary_of(SPOKEN)

    assert found.operations == (
        *("conv", "conv1x1", "conv3x3", "max_pool3x3", "mbconv", "none"),
        *("sep_conv3x3", "skip"),
    )
    assert found.arguments == ("conv.groups", "conv.kernel", "mbconv.expansion", "mbconv.se")
    assert found.num_scalars == 8


def test_an_argument_that_is_a_word_is_in_the_vocabulary_once_for_each_word() -> None:
    linear = {"linear": {"norm": ["batch", "none"], "dropout": [0.0, 0.1]}}
    description = {
        "stem": {"width": 8, "operation": "linear"},
        "cells": {"layer": {"nodes": 1, "operations": [linear]}},
        "stages": [{"cell": "layer", "width": 8, "transition": None}],
    }
    space = SearchSpace(SpaceConfig.model_validate_json(json.dumps(description)), operation_facts())

    assert vocabulary_of(space).arguments == ("linear.dropout", "linear.norm=batch", "linear.norm=none")


WORDS = Vocabulary(
    operations=("conv", "linear", "mbconv"),
    activations=("relu",),
    initialisations=("default",),
    arguments=("conv.kernel", "linear.norm=batch", "linear.norm=none", "mbconv.kernel", "mbconv.se"),
)


@pytest.mark.parametrize(
    ("node", "scalars"),
    [
        (conv(0, operation="conv", kernel=7), [3, 0, 0, 0, 0]),
        (conv(0, operation="mbconv", kernel=3, se=True), [0, 0, 0, 2, 1]),
        (conv(0, operation="mbconv", kernel=3, se=False), [0, 0, 0, 2, 0]),
        (conv(0, operation="conv", kernel=0.5), [math.log2(1.5), 0, 0, 0, 0]),
        (conv(0, operation="conv", kernel=-3), [-2, 0, 0, 0, 0]),
        (conv(0, operation="linear", norm="batch"), [0, 1, 0, 0, 0]),
        (conv(0, operation="linear", norm="none"), [0, 0, 1, 0, 0]),
        (conv(0, operation="linear"), [0, 0, 0, 0, 0]),
    ],
    ids=lambda value: value.label if isinstance(value, Node) else None,
)
def test_an_argument_is_a_scalar_of_its_operation_and_a_word_one_of_its_own(node: Node, scalars: list[float]) -> None:
    graph = NetworkGraph((Block("stem", Cell((node,), (1,))),), "relu", "default")

    found = Encoder(WORDS).encode(graph).scalars

    assert found[1].tolist() == pytest.approx([3, 1, *scalars, 0, 0])
    assert found[0].tolist() == [0] * 9
    assert found[2].tolist() == [0] * 8 + [1]


@pytest.mark.parametrize("arguments", [{"width": 3}, {"norm": "layer"}], ids=str)
def test_an_argument_that_is_not_in_the_vocabulary_is_refused(arguments: dict[str, Value]) -> None:
    node = conv(0, operation="linear", **arguments)

    with pytest.raises(KeyError):
        Encoder(WORDS).encode(NetworkGraph((Block("stem", Cell((node,), (1,))),), "relu", "default"))


def test_width_and_stride_are_each_node_s_own_and_the_head_s_width_its_join_s() -> None:
    nodes = (replace(conv(0, stride=2), width=16), replace(conv(0, stride=2), width=4))
    body = Block("stages.0", Cell(nodes, (1, 2), join="concat"))

    found = ENCODER.encode(NetworkGraph((STEM, body), "relu", "default", head_width=32))

    assert found.scalars[:, :2].tolist() == [[0, 0], [3, 1], [0, 0], [4, 2], [2, 2], [5, 0]]


def test_what_is_added_leaves_a_cell_as_well() -> None:
    body = Block("stages.0", Cell((conv(0), conv(1)), (2,), join="concat", added=(0,)))

    found = ENCODER.encode(NetworkGraph((STEM, body), "relu", "default"))

    assert edges(found) == [(0, 1), (1, 2), (2, 3), (2, 5), (3, 4), (4, 5)]


def test_cells_with_two_inputs_have_a_join_for_each_and_the_first_reads_the_stem_twice() -> None:
    pair = Cell((conv(0), conv(1), conv(2, 3)), (4, 3), num_inputs=2)
    single = Block("t", Cell((conv(0),), (1,)))
    graph = NetworkGraph((STEM, Block("a", pair), Block("b", pair), single, Block("c", pair)), "relu", "default")

    found = ENCODER.encode(graph)

    inside = [(0, 2), (1, 3), (2, 4), (3, 4)]
    first, second, middle, last, head = 2, 7, 12, 14, 19
    assert (found.codes[:, 0] == Encoder.JOIN).nonzero()[0].tolist() == [0, 2, 3, 7, 8, 12, 14, 15, 19]
    assert edges(found) == sorted(
        [(0, 1)]
        + [(cell + source, cell + target) for cell in (first, second, last) for source, target in inside]
        + [(1, first), (1, first + 1)]  # both times the stem
        + [(first + 4, second), (first + 3, second), (1, second + 1)]
        + [(second + 4, middle), (second + 3, middle), (middle, middle + 1)]
        + [(middle + 1, last), (second + 4, last + 1), (second + 3, last + 1)]
        + [(last + 4, head), (last + 3, head)]
    )


def test_behind_a_repeated_cell_both_inputs_are_its_copies() -> None:
    pair = Cell((conv(0), conv(1)), (2, 3), num_inputs=2)
    graph = NetworkGraph((STEM, Block("a", pair, 3), Block("b", pair)), "relu", "default")

    found = edges(ENCODER.encode(graph))

    repeated, last = 2, 6
    assert [target for source, target in found if source == 1] == [repeated, repeated + 1]
    assert [(s, t) for s, t in found if t in (last, last + 1)] == [(4, 6), (4, 7), (5, 6), (5, 7)]


@pytest.mark.parametrize("graph", graphs(12, seed=3, space=SPOKEN))
def test_every_member_with_two_inputs_and_arguments_is_encoded_by_the_words_of_its_space(graph: NetworkGraph) -> None:
    vocabulary = vocabulary_of(SPOKEN)

    found = Encoder(vocabulary).encode(graph)

    assert len(found.codes) == sum(block.cell.num_inputs + len(block.cell.nodes) for block in graph.blocks) + 1
    assert found.scalars.shape == (len(found.codes), vocabulary.num_scalars)
    assert (found.codes < np.array(vocabulary.sizes)).all()
    assert (found.edges[0] < found.edges[1]).all()
    given = sum(bool(value) for block in graph.blocks for node in block.cell.nodes for _, value in node.arguments)
    assert (found.scalars[:, 2:-2] != 0).sum() == given


class Counting(Encoder):
    """Counts the cells that are looked at."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.cells: list[Cell] = []
        super().__init__(vocabulary)

    def _cell(self, cell: Cell) -> Any:
        self.cells.append(cell)
        return super()._cell(cell)


@pytest.mark.parametrize("space", [SPACE, SPOKEN], ids=["one input", "two inputs"])
def test_a_cell_that_many_networks_hold_is_looked_at_once_and_encoded_the_same_in_each(space: SearchSpace) -> None:
    networks = graphs(30, seed=4, space=space)
    encoder = Counting(vocabulary_of(space))

    found = [encoder.encode(graph) for graph in networks * 2]

    assert len(encoder.cells) == len({block.cell for graph in networks for block in graph.blocks})
    for graph, first, again in zip(networks, found[:30], found[30:], strict=True):
        alone = Encoder(vocabulary_of(space)).encode(graph)
        for one in (first, again):
            np.testing.assert_array_equal(one.codes, alone.codes)
            np.testing.assert_array_equal(one.scalars, alone.scalars)
            np.testing.assert_array_equal(one.edges, alone.edges)
