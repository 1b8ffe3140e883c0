"""Keys of the spaces that ship agree exactly where the computation is the same.

Where it is made the same on purpose (nodes renamed, branches that lead nowhere, operations behind a `none`) the keys
agree, and the networks give the same when their weights do. Where keys differ, so do the networks that are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from shipped_spaces import NAMES, drawn, example_shape, few, merged, seeds, space

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.graph import Cell, NetworkGraph
from nasflow_cli.core.trial import Phase
from nasflow_cli.nets.builder import CellModule, Setting, build, cells_of, make_head, out_width

every_space = pytest.mark.parametrize("name", NAMES)
Graph = nx.DiGraph


def member(name: str, values: Mapping[str, Value]) -> NetworkGraph:
    """The member with these values; what else is active takes its last choice."""
    rest = {parameter.name: parameter.domain.values[-1] for parameter in space(name).parameters.values()}
    return space(name).member(values, rest)[1]


def answers(graph: NetworkGraph, shape: tuple[int, ...]) -> torch.Tensor:
    """What a network gives when each weight follows from its shape, and none tells one input channel from another.

    So networks that do the same in another order give the same. Norms have no bias yet, or what is built behind a
    `none` would give it.
    """
    network = build(graph, shape, 5, seed=0).eval()
    with torch.no_grad():
        for weight in network.parameters():
            values = torch.rand(weight.shape, generator=torch.Generator().manual_seed(sum(weight.shape)))
            if weight.ndim > 1:
                weight.copy_(values[:, :1].expand_as(weight) * 2 / weight[0].numel())
        answer: torch.Tensor = network(torch.rand(2, *shape, generator=torch.Generator().manual_seed(1)))
    assert answer.any()
    return answer / answer.abs().max()


def assert_same(name: str, one: NetworkGraph, other: NetworkGraph) -> None:
    assert one.key() == other.key()
    shape = example_shape(name, 8)
    torch.testing.assert_close(answers(one, shape), answers(other, shape))


# NAS-Bench-101: nodes of any cell can be renamed


def nasbench101_cell(graph_edges: Sequence[tuple[int, int]], operations: Sequence[str], out: int) -> dict[str, Value]:
    values: dict[str, Value] = {
        f"cell.{i}-{j}.edge": (i, j) in graph_edges for j in range(2, len(operations) + 1) for i in range(j)
    }
    values.update({f"cell.{i}-out.edge": (i, out) in graph_edges for i in range(len(operations) + 1)})
    values.update({f"cell.{i}.operation": word for i, word in enumerate(operations, start=1)})
    return values


def live_part(values: Mapping[str, Value]) -> Graph:
    """The cell as a graph of its own, with what neither is reached nor reaches the output left out."""
    graph = Graph()
    graph.add_node(0, word="in")
    graph.add_node("out", word="out")
    for j in range(1, 6):
        graph.add_node(j, word=values.get(f"cell.{j}.operation", "?"))
        graph.add_edges_from((i, j) for i in range(j) if values.get(f"cell.{i}-{j}.edge", j == 1))
    graph.add_edges_from((i, "out") for i in range(6) if values.get(f"cell.{i}-out.edge"))
    alive = (nx.descendants(graph, 0) | {0}) & (nx.ancestors(graph, "out") | {"out"})
    return graph.subgraph(alive | {0, "out"}).copy()


def renamed(cell: Graph, rng: np.random.Generator) -> dict[str, Value]:
    """The cell with its inner nodes in another order, among nodes that lead nowhere."""
    order = [node for node in random_order(cell, rng) if node not in (0, "out")]
    places = sorted(rng.choice(np.arange(1, 6), len(order), replace=False).tolist()) if order else []
    number = {0: 0, "out": 6, **dict(zip(order, places, strict=True))}
    edges = [(number[i], number[j]) for i, j in cell.edges()]
    idle = [node for node in range(2, 6) if node not in places]
    edges += [(i, j) for j in idle for i in range(j) if rng.random() < 0.5]
    words = {number[node]: word for node, word in cell.nodes(data="word")}
    operations = [words.get(place, "conv1x1") for place in range(1, 6)]
    return nasbench101_cell(edges, operations, 6)


def random_order(cell: Graph, rng: np.random.Generator) -> list[object]:
    """A topological order, at random."""
    waiting, order = dict(cell.in_degree()), []
    while waiting:
        ready = sorted((node for node, count in waiting.items() if count == 0), key=str)
        order.append(ready[int(rng.integers(len(ready)))])
        del waiting[order[-1]]
        for _, reader in cell.out_edges(order[-1]):
            waiting[reader] -= 1
    return order


@few(8)
@given(seed=seeds)
def test_nodes_renamed_among_dead_branches_are_the_same_computation(seed: int) -> None:
    architecture, graph = drawn("nasbench101", seed)
    if not graph.is_connected:
        return
    values = renamed(live_part(merged(architecture)), np.random.default_rng(seed))

    assert member("nasbench101", values).key() == graph.key()


def test_renamed_nodes_give_the_same_answers() -> None:
    rng = np.random.default_rng(0)
    edges = [(0, 1), (0, 2), (1, 3), (2, 3), (1, 4), (3, 6), (4, 6), (0, 6)]
    values = nasbench101_cell(edges, ["conv1x1", "conv3x3", "max_pool3x3", "conv1x1", "conv3x3"], 6)
    others = [renamed(live_part(values), rng) for _ in range(8)]

    different = [other for other in others if merged_of("nasbench101", other) != merged_of("nasbench101", values)]

    assert different
    assert_same("nasbench101", member("nasbench101", values), member("nasbench101", different[0]))


def merged_of(name: str, values: Mapping[str, Value]) -> dict[str, Value]:
    return merged(space(name).complete(values))


def test_keys_of_nasbench101_agree_exactly_where_a_graph_library_finds_the_same_cell() -> None:
    """Small cells of two operations, so that many pairs are the same."""
    rng, found = np.random.default_rng(0), []
    while len(found) < 60:
        edges = [(i, j) for j in (2, 3) for i in range(j) if rng.random() < 0.5]
        edges += [(i, 6) for i in range(4) if rng.random() < 0.6]
        operations = [["conv1x1", "conv3x3"][int(rng.integers(2))] for _ in range(5)]
        values = nasbench101_cell(edges, operations, 6)
        graph = member("nasbench101", values)
        if graph.is_connected:
            found.append((live_part(values), graph.key()))
    pairs = [(a, b) for n, a in enumerate(found) for b in found[:n]]

    agree = [(a[1] == b[1], nx.is_isomorphic(a[0], b[0], lambda x, y: x["word"] == y["word"])) for a, b in pairs]

    assert all(key == graph for key, graph in agree)
    assert sum(key for key, _ in agree) > 20


# NAS-Bench-201: what stands behind a `none`

NB201_EDGES = ["0-1", "0-2", "1-2", "0-3", "1-3", "2-3"]


def nasbench201(*operations: str) -> dict[str, Value]:
    return {f"cell.{edge}.operation": word for edge, word in zip(NB201_EDGES, operations, strict=True)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            ("none", "conv3x3", "conv3x3", "skip", "conv1x1", "skip"),
            ("none", "conv3x3", "skip", "skip", "none", "skip"),
            id="behind a none",
        ),
        pytest.param(
            ("conv3x3", "conv1x1", "avg_pool3x3", "skip", "conv3x3", "none"),
            ("conv3x3", "none", "conv3x3", "skip", "conv3x3", "none"),
            id="in front of a none",
        ),
        pytest.param(
            ("conv3x3", "conv1x1", "none", "none", "skip", "skip"),
            ("conv1x1", "conv3x3", "none", "none", "skip", "skip"),
            id="two nodes renamed",
        ),
        pytest.param(
            ("conv3x3", "none", "none", "none", "skip", "none"),
            ("none", "none", "none", "conv3x3", "none", "none"),
            id="a way around through a skip",
        ),
    ],
)
def test_cells_of_nasbench201_that_differ_in_what_does_not_matter_are_the_same(
    one: Sequence[str], other: Sequence[str]
) -> None:
    first, second = (member("nasbench201", nasbench201(*operations)) for operations in (one, other))

    assert first != second
    assert_same("nasbench201", first, second)


def test_a_node_that_is_read_twice_is_not_two_nodes() -> None:
    shared = member("nasbench201", nasbench201("conv3x3", "none", "skip", "none", "skip", "skip"))
    doubled = member("nasbench201", nasbench201("conv3x3", "conv3x3", "none", "none", "skip", "skip"))

    assert shared.key() != doubled.key()


# DARTS: `none` between two inputs and a concatenation


def darts(inputs: Mapping[int, str], operations: Mapping[str, str]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for cell in ("normal", "reduction"):
        for node in range(2, 6):
            values[f"{cell}.{node}.inputs"] = inputs[node]
            for n in (0, 1):
                values[f"{cell}.{node}.{n}.operation"] = operations.get(f"{node}.{n}", "skip")
    return values


def test_what_reads_only_nones_in_a_darts_cell_does_not_matter() -> None:
    inputs = {2: "0+1", 3: "0+1", 4: "0+2", 5: "0+2"}
    silent = {"2.0": "none", "2.1": "none", "3.0": "max_pool3x3"}
    one, other = (darts(inputs, {**silent, "4.1": word, "5.1": word}) for word in ("dil_conv5x5", "avg_pool3x3"))
    heard = darts(inputs, {**silent, "2.0": "skip", "4.1": "dil_conv5x5", "5.1": "avg_pool3x3"})

    assert_same("darts", member("darts", one), member("darts", other))
    assert member("darts", one).key() != member("darts", heard).key()


def test_nodes_of_a_darts_cell_may_change_places() -> None:
    words = {"2.0": "max_pool3x3", "2.1": "avg_pool3x3", "3.0": "avg_pool3x3", "5.1": "max_pool3x3"}
    swapped = {"3.0": "max_pool3x3", "3.1": "avg_pool3x3", "2.0": "avg_pool3x3", "5.1": "max_pool3x3"}
    one = darts({2: "0+1", 3: "0+1", 4: "0+2", 5: "1+3"}, words)
    other = darts({2: "0+1", 3: "0+1", 4: "0+3", 5: "1+2"}, swapped)

    assert merged_of("darts", one) != merged_of("darts", other)
    assert_same("darts", member("darts", one), member("darts", other))


# Chains


def test_a_block_that_is_skipped_is_a_stage_that_is_less_deep() -> None:
    def blocks(depth: int, *skipped: int) -> dict[str, Value]:
        values: dict[str, Value] = {"stages.1.depth": depth}
        values.update({f"stages.1.layer{n}.1.operation": "skip" if n in skipped else "mbconv" for n in range(4)})
        return values

    deep, less = blocks(3, 2), blocks(2)

    assert_same("mobilenet", member("mobilenet", deep), member("mobilenet", less))
    assert member("mobilenet", blocks(3)).key() != member("mobilenet", less).key()


@every_space
def test_other_keys_are_other_networks(name: str) -> None:
    """Two that differ in one parameter have one key exactly if the modules, wires and initialisations are the same."""
    seen: list[bool] = []
    for seed in range(20):
        architecture, graph = drawn(name, seed)
        half: Phase = "operators" if seed % 2 else "structure"
        edited = space(name).edit_member(architecture, half, np.random.default_rng(seed))[1]
        seen.append(graph.key() == edited.key())
        assert seen[-1] == (built(name, graph) == built(name, edited)), architecture
    assert not all(seen)


def built(name: str, graph: NetworkGraph) -> str:
    """Everything that a network is made of, but for what cannot matter."""
    bare = graph.simplified or graph
    if not bare.is_connected:
        return "nothing"
    flat = replace(bare, blocks=tuple(block for block in bare.blocks if not block.cell.passes_on), simplified=None)
    in_width, setting = example_shape(name, 8)[0], Setting(order=bare.order, vectors=len(example_shape(name, 8)) == 1)
    cells = [made_of(cell, widths, setting) for cell, widths in cells_of(flat, in_width)]
    with torch.device("meta"):
        head = make_head(flat, out_width(flat, in_width), setting, 10)
    return f"{cells} {head} {flat.initialisation}"


@cache
def made_of(cell: Cell, widths: tuple[int, int], setting: Setting) -> str:
    """The modules, the wires and the initialisations of a cell."""
    with torch.device("meta"):
        module = CellModule(cell, widths, setting)
    wires = [(node.inputs, node.initialisation) for node in cell.nodes]
    return f"{module} {wires} {cell.output} {cell.added} {cell.join}"
