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
from nasflow_cli.predict.encode import EncodedCell, EncodedGraph, Encoder, Vocabulary, batch
from nasflow_cli.predict.ranker import vocabulary_of


def edges(part: EncodedCell | EncodedGraph) -> list[tuple[int, int]]:
    return sorted(zip(*part.edges.tolist(), strict=True))


def unordered(cell: EncodedCell) -> list[object]:
    """What is left of a cell when its nodes have no order: each node with what feeds it, three steps deep."""
    labels: list[object] = [
        (*code, *scalar) for code, scalar in zip(cell.codes.tolist(), cell.scalars.tolist(), strict=True)
    ]
    for _ in range(3):
        fed: list[list[object]] = [[] for _ in labels]
        read: list[list[object]] = [[] for _ in labels]
        for source, target in edges(cell):
            fed[target].append(labels[source])
            read[source].append(labels[target])
        labels = [
            repr((label, sorted(map(repr, f)), sorted(map(repr, r))))
            for label, f, r in zip(labels, fed, read, strict=True)
        ]
    return sorted(map(str, labels))


def described(graph: EncodedGraph) -> object:
    return [unordered(cell) for cell in graph.cells], graph.scalars.tolist(), edges(graph)


INPUT, SECOND, SUM, CONCAT, HEAD = range(1, 6)
RELU, GELU, DEFAULT = 2, 1, 1
CONV3, CONV1 = (VOCABULARY.operations.index(name) + 6 for name in ("conv3x3", "conv1x1"))


def test_a_network_is_encoded_as_its_blocks_and_their_cells() -> None:
    graph = network(conv(0), conv(0, 1, operation="conv1x1"), output=(0, 2), depth=4, width=16, activation="gelu")

    found = ENCODER.encode(graph)

    stem, stage, head = found.cells
    assert stem.codes.tolist() == [[INPUT, 0, 0], [CONV3, RELU, DEFAULT], [SUM, 0, 0]]
    assert edges(stem) == [(0, 1), (1, 2)]
    assert stage.codes.tolist() == [[INPUT, 0, 0], [CONV3, RELU, DEFAULT], [CONV1, RELU, DEFAULT], [SUM, 0, 0]]
    assert edges(stage) == [(0, 1), (0, 2), (0, 3), (1, 2), (2, 3)]
    assert stage.scalars.tolist() == [[0, 0], [0, 1], [0, 1], [0, 0]]  # as wide as the widest, stride 1
    assert head.codes.tolist() == [[HEAD, GELU, DEFAULT]]
    assert found.scalars.tolist() == [
        [3, 0, 0],  # width 8, one copy, the first of two blocks
        [4, 2, 0.5],  # width 16, four copies
        [0, 0, 1],
    ]
    assert edges(found) == [(0, 1), (1, 2)]


def test_a_value_that_is_read_twice_has_two_edges() -> None:
    found = ENCODER.encode(network(conv(0, 0), output=(1, 1))).cells[1]

    assert edges(found) == [(0, 1), (0, 1), (1, 2), (1, 2)]


@pytest.mark.parametrize("graph", graphs(20, seed=0))
def test_nodes_and_edges_are_as_many_as_the_network_has(graph: NetworkGraph) -> None:
    found = ENCODER.encode(graph)

    assert {block.cell.num_inputs for block in graph.blocks} == {1}
    for block, cell in zip(graph.blocks, found.cells, strict=False):
        num_edges = sum(len(node.inputs) for node in block.cell.nodes) + len(block.cell.output)
        assert cell.codes.shape == (len(block.cell.nodes) + 2, 3)
        assert cell.scalars.shape == (len(block.cell.nodes) + 2, 2)
        assert cell.edges.shape == (2, num_edges)
        assert (cell.edges[0] < cell.edges[1]).all()
        assert (cell.codes < np.array(VOCABULARY.sizes)).all()
    assert len(found.cells) == len(found.scalars) == len(graph.blocks) + 1
    assert edges(found) == [(number, number + 1) for number in range(len(graph.blocks))]


def test_isomorphic_networks_are_encoded_alike_up_to_the_order_of_nodes() -> None:
    one = network(conv(0), conv(0, operation="conv1x1"), conv(1, 2), output=(3,))
    other = network(conv(0, operation="conv1x1"), conv(0), conv(2, 1), output=(3,))
    different = network(conv(0), conv(0, operation="conv1x1"), conv(1, 1), output=(2, 3))

    first, second, third = encoded([one, other, different])

    assert one.key() == other.key()
    assert described(first) == described(second)
    assert described(first) != described(third)


def test_different_networks_are_encoded_differently() -> None:
    networks = graphs(200, seed=1)

    assert len({str(described(found)) for found in encoded(networks)}) == 200


def test_cells_that_differ_in_absolute_width_alone_are_one_and_their_blocks_tell_the_width() -> None:
    narrow, wide = encoded([network(conv(0), conv(1), output=(2,), width=width) for width in (8, 32)])

    assert narrow.cells[1] is wide.cells[1]
    assert (narrow.scalars[1, 0], wide.scalars[1, 0]) == (3, 5)


def test_a_batch_is_its_different_cells_and_its_networks_side_by_side() -> None:
    parts = encoded(graphs(7, seed=2))

    together = batch(parts)

    cells = list(dict.fromkeys(cell for part in parts for cell in part.cells))
    assert len(cells) < len(together.cells) == sum(len(part.cells) for part in parts)
    assert [cells[i] for i in together.cells] == [cell for part in parts for cell in part.cells]
    assert together.num_nodes.tolist() == [len(cell.codes) for cell in cells]
    nodes, reads = np.cumsum([0, *together.num_nodes]), np.cumsum([0, *(cell.edges.shape[1] for cell in cells)])
    for i, cell in enumerate(cells):
        np.testing.assert_array_equal(together.codes[nodes[i] : nodes[i + 1]], cell.codes)
        np.testing.assert_array_equal(together.node_scalars[nodes[i] : nodes[i + 1]], cell.scalars)
        np.testing.assert_array_equal(together.node_edges[:, reads[i] : reads[i + 1]] - nodes[i], cell.edges)
    assert together.num_blocks.tolist() == [len(part.cells) for part in parts]
    blocks, links = np.cumsum([0, *together.num_blocks]), np.cumsum([0, *(part.edges.shape[1] for part in parts)])
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(together.block_scalars[blocks[i] : blocks[i + 1]], part.scalars)
        np.testing.assert_array_equal(together.block_edges[:, links[i] : links[i + 1]] - blocks[i], part.edges)
    assert together.node_edges.shape[1] == reads[-1]
    assert together.block_edges.shape[1] == links[-1]
    assert together.codes.dtype == np.int64
    assert together.node_scalars.dtype == together.block_scalars.dtype == np.float32


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
    assert found.sizes == (10, 3, 2)
    assert found.num_scalars == 2


def test_the_vocabulary_has_what_projects_and_every_argument_that_the_description_names() -> None:
    found = vocabulary_of(SPOKEN)

    assert found.operations == (
        *("conv", "conv1x1", "conv3x3", "max_pool3x3", "mbconv", "none"),
        *("sep_conv3x3", "skip"),
    )
    assert found.arguments == ("conv.groups", "conv.kernel", "mbconv.expansion", "mbconv.se")
    assert found.num_scalars == 6


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

    found = Encoder(WORDS).encode(graph).cells[0].scalars

    assert found[1].tolist() == pytest.approx([0, 1, *scalars])
    assert found[0].tolist() == found[2].tolist() == [0] * 7


@pytest.mark.parametrize("arguments", [{"width": 3}, {"norm": "layer"}], ids=str)
def test_an_argument_that_is_not_in_the_vocabulary_is_refused(arguments: dict[str, Value]) -> None:
    node = conv(0, operation="linear", **arguments)

    with pytest.raises(KeyError):
        Encoder(WORDS).encode(NetworkGraph((Block("stem", Cell((node,), (1,))),), "relu", "default"))


def test_width_and_stride_are_each_node_s_own_and_the_head_s_width_its_block_s() -> None:
    nodes = (replace(conv(0, stride=2), width=16), replace(conv(0, stride=2), width=4))
    body = Block("stages.0", Cell(nodes, (1, 2), join="concat"))

    found = ENCODER.encode(NetworkGraph((STEM, body), "relu", "default", head_width=32))

    assert found.cells[1].scalars.tolist() == [[0, 0], [0, 2], [-2, 2], [0, 0]]
    assert found.scalars[:, 0].tolist() == [3, 4, 5]


def test_how_what_leaves_a_cell_is_joined_stands_on_its_last_node() -> None:
    summed, concatenated = (
        ENCODER.encode(NetworkGraph((STEM, Block("a", Cell((conv(0),), (0, 1), join=join))), "relu", "default"))
        for join in ("sum", "concat")
    )

    assert [each.cells[1].codes[-1, 0] for each in (summed, concatenated)] == [SUM, CONCAT]


def test_what_is_added_leaves_a_cell_as_well() -> None:
    body = Block("stages.0", Cell((conv(0), conv(1)), (2,), join="concat", added=(0,)))

    found = ENCODER.encode(NetworkGraph((STEM, body), "relu", "default"))

    assert edges(found.cells[1]) == [(0, 1), (0, 3), (1, 2), (2, 3)]


def test_a_cell_without_nodes_passes_its_input_on() -> None:
    found = ENCODER.encode(NetworkGraph((STEM, Block("a", Cell((), (0,)))), "relu", "default"))

    assert found.cells[1].codes[:, 0].tolist() == [INPUT, SUM]
    assert edges(found.cells[1]) == [(0, 1)]
    assert found.scalars[1].tolist() == [0, 0, 0.5]


def test_cells_with_two_inputs_tell_them_apart_and_their_blocks_read_the_last_two() -> None:
    pair = Cell((conv(0), conv(1), conv(2, 3)), (4, 3), num_inputs=2)
    single = Block("t", Cell((conv(0),), (1,)))
    graph = NetworkGraph((STEM, Block("a", pair), Block("b", pair), single, Block("c", pair)), "relu", "default")

    found = ENCODER.encode(graph)

    assert found.cells[1].codes[:, 0].tolist() == [INPUT, SECOND, CONV3, CONV3, CONV3, SUM]
    assert edges(found.cells[1]) == [(0, 2), (1, 3), (2, 4), (3, 4), (3, 5), (4, 5)]
    assert edges(found) == [(0, 1), (0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4), (4, 5)]  # at first twice the stem


def test_behind_a_repeated_cell_both_inputs_are_its_copies() -> None:
    pair = Cell((conv(0), conv(1)), (2, 3), num_inputs=2)
    graph = NetworkGraph((STEM, Block("a", pair, 3), Block("b", pair)), "relu", "default")

    assert edges(ENCODER.encode(graph)) == [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3)]


@pytest.mark.parametrize("graph", graphs(12, seed=3, space=SPOKEN))
def test_every_member_with_two_inputs_and_arguments_is_encoded_by_the_words_of_its_space(graph: NetworkGraph) -> None:
    vocabulary = vocabulary_of(SPOKEN)

    found = Encoder(vocabulary).encode(graph)

    for block, cell in zip(graph.blocks, found.cells, strict=False):
        assert len(cell.codes) == block.cell.num_inputs + len(block.cell.nodes) + 1
        assert cell.scalars.shape == (len(cell.codes), vocabulary.num_scalars)
        assert (cell.codes < np.array(vocabulary.sizes)).all()
        assert (cell.edges[0] < cell.edges[1]).all()
        given = sum(bool(value) for node in block.cell.nodes for _, value in node.arguments)
        assert (cell.scalars[:, 2:] != 0).sum() == given


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
        assert all(one is other for one, other in zip(first.cells, again.cells, strict=True))
        np.testing.assert_array_equal(first.scalars, alone.scalars)
        np.testing.assert_array_equal(first.edges, alone.edges)
        for one, other in zip(first.cells, alone.cells, strict=True):
            np.testing.assert_array_equal(one.codes, other.codes)
            np.testing.assert_array_equal(one.scalars, other.scalars)
            np.testing.assert_array_equal(one.edges, other.edges)
