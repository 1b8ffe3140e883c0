"""Networks as the arrays that the predictor reads."""

from __future__ import annotations

import numpy as np
import pytest
from scored_graphs import ENCODER, SPACE, VOCABULARY, conv, encoded, graphs, network

from nasflow_cli.core.graph import NetworkGraph
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
    assert found.scalars.tolist() == [[3, 0, 1, 0]] * 2 + [[4, 2, 1, 0.5]] * 3 + [[4, 0, 1, 1]]


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
    assert together.num_edges.tolist() == [part.edges.shape[1] for part in parts]
    nodes, reads = np.cumsum([0, *together.num_nodes]), np.cumsum([0, *together.num_edges])
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

    assert found.operations == ("avg_pool3x3", "conv1x1", "conv3x3")
    assert found.activations == ("gelu", "relu")
    assert found.initialisations == ("default",)
    assert found.sizes == (5, 3, 2)
