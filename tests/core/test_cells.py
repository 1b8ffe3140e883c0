"""How a described cell is wired, and the widths and strides that its nodes are given."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from described_spaces import described

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.space import SearchSpace

CONVS = ["conv1x1", "conv3x3", "conv5x5", "conv7x7"]


def space_of(cell: dict[str, Any], *stages: dict[str, Any], stem: Any = 4, **rest: Any) -> SearchSpace:
    """A space of one cell `c` in stages of width 4, unless said otherwise; no transitions."""
    rows = [{"cell": "c", "width": 4, "transition": None, **stage} for stage in stages or ({},)]
    operations = {"operations": CONVS} if "operations" not in cell else {}
    return described({"stem": {"width": stem}, "cells": {"c": {**operations, **cell}}, "stages": rows, **rest})


def graph_of(space: SearchSpace, **values: Value) -> NetworkGraph:
    """The member with these values; `__` stands for a dot and `to` for a dash. The rest is the first of its domain."""
    named = {name.replace("__", ".").replace("to", "-"): value for name, value in values.items()}
    unknown = named.keys() - space.parameters.keys()
    assert not unknown, unknown
    first = {name: found.domain.choices[0] for name, found in space.parameters.items()}
    return space.graph(space.complete(named, first))


def cell_of(space: SearchSpace, **values: Value) -> Cell:
    """The last cell of the member."""
    return graph_of(space, **values).blocks[-1].cell


def reads(cell: Cell) -> list[tuple[int, ...]]:
    return [node.inputs for node in cell.nodes]


def shapes(cell: Cell) -> list[tuple[str, int, int]]:
    return [(node.operation, node.width, node.stride) for node in cell.nodes]


# Edges


@pytest.mark.parametrize(
    ("edges", "wanted"),
    [("all", [(0,), (0, 1), (0, 1, 2)]), ("chain", [(0,), (1,), (2,)])],
)
def test_fixed_edges_leave_no_structure_to_search(edges: str, wanted: list[tuple[int, ...]]) -> None:
    space = space_of({"nodes": 3, "edges": edges})
    assert space.half("structure") == ()
    assert reads(cell_of(space)) == wanted


def test_free_edges_are_searched_one_by_one_but_for_the_only_one_of_the_first_node() -> None:
    space = space_of({"nodes": 3})
    assert [parameter.name for parameter in space.half("structure")] == [
        f"c.{edge}.edge" for edge in ("0-2", "1-2", "0-3", "1-3", "2-3")
    ]
    cell = cell_of(space, c__0to2__edge=True, c__1to3__edge=True, c__2to3__edge=True)
    assert reads(cell) == [(0,), (0,), (1, 2)]


def test_a_number_of_edges_has_each_node_choose_so_many_of_the_values_before_it() -> None:
    space = space_of({"nodes": 3, "edges": 2})
    # the first node has one value to choose, the second two: neither has a choice
    (parameter,) = space.half("structure")
    assert (parameter.name, parameter.domain.choices) == ("c.3.inputs", ("0+1", "0+2", "1+2"))
    assert reads(cell_of(space, c__3__inputs="0+2")) == [(0,), (0, 1), (0, 2)]


def test_operations_on_chosen_edges_each_have_a_slot_of_their_own() -> None:
    space = space_of({"nodes": 2, "edges": 2, "slots": "edges", "output": "last"})
    assert [parameter.name for parameter in space.half("operators")] == [
        "c.1.0.operation",
        "c.2.0.operation",
        "c.2.1.operation",
    ]
    cell = cell_of(space, **{"c__1__0__operation": "conv3x3", "c__2__1__operation": "conv5x5"})
    assert [(node.operation, node.inputs) for node in cell.nodes] == [
        ("conv3x3", (0,)),
        ("conv1x1", (0,)),
        ("conv5x5", (1,)),
    ]
    assert cell.output == (2, 3)


# Output


FORK = {"c__0to2__edge": True, "c__0to3__edge": True, "c__1to3__edge": True}
"""Node 1 and 2 read the input, node 3 the input and node 1: only node 1 is read."""


@pytest.mark.parametrize(
    ("output", "leaving"), [("loose", ["conv3x3", "conv5x5"]), ("all", CONVS[:3]), ("last", ["conv5x5"])]
)
def test_what_leaves_a_cell_is_what_nobody_reads_or_all_or_the_last(output: str, leaving: list[str]) -> None:
    names = {f"c__{i}__operation": CONVS[i - 1] for i in (1, 2, 3) if i != 2 or output != "last"}
    cell = cell_of(space_of({"nodes": 3, "output": output}), **FORK, **names)
    assert [cell.nodes[value - 1].operation for value in cell.output] == leaving


def test_a_free_output_is_what_searched_edges_say_the_input_among_it() -> None:
    space = space_of({"nodes": 2, "edges": "chain", "output": "free"})
    assert [parameter.name for parameter in space.half("structure")] == [f"c.{i}-out.edge" for i in range(3)]
    assert cell_of(space) == Cell((), ())
    assert not graph_of(space).is_connected
    assert cell_of(space, c__0toout__edge=True) == Cell((), (0,))
    both = cell_of(space, c__1toout__edge=True, c__0toout__edge=True)
    assert (len(both.nodes), sorted(both.output)) == (1, [0, 1])
    assert (
        "c.2.operation"
        not in space.complete(
            {"c.0-out.edge": True, "c.1-out.edge": False, "c.2-out.edge": False}, {"c.1.operation": "conv1x1"}
        ).operators
    )


# Joining


def test_a_concatenation_makes_the_cell_wider_and_the_next_cell_reads_all_of_it() -> None:
    cell = {"nodes": 2, "edges": "chain", "output": "all", "join": "concat"}
    graph = graph_of(space_of({**cell, "operations": ["max_pool3x3"]}, {"depth": 2}))
    first, second = (block.cell for block in graph.blocks[1:])
    assert first.join == "concat"
    assert first.out_width([4]) == second.out_width([8]) == 8
    # the second cell brings eight channels to four, so its first pooling projects
    assert [node.activation for node in first.nodes + second.nodes] == [None, None, "relu", None]


@pytest.mark.parametrize("join", ["concat", "split"])
def test_the_input_is_added_to_what_is_joined_through_a_projection_of_its_width(join: str) -> None:
    cell = cell_of(space_of({"nodes": 2, "edges": "chain", "output": "all", "join": join, "residual": True}))
    width = 8 if join == "concat" else 4
    assert cell.out_width([4]) == width
    (added,) = cell.added
    if join == "concat":
        assert shapes(cell)[added - 1] == ("skip", 8, 1)
        assert cell.nodes[added - 1].activation == "relu"
    else:
        assert added == 0


def test_the_parts_of_a_node_with_operations_on_its_edges_are_summed_before_they_are_joined() -> None:
    cell = cell_of(space_of({"nodes": 2, "edges": "all", "slots": "edges", "output": "all", "join": "concat"}))
    assert cell.out_width([4]) == 8
    assert cell.output == (1, 4)
    assert cell.nodes[3] == Node("skip", (2, 3), 4)


# NAS-Bench-101: what leads to the output shares the width; another node is as wide as the widest that reads it.


def split(edges: list[str], width: int, **rest: Any) -> Cell:
    space = space_of(
        {"nodes": 5, "output": "free", "join": "split", "project": {"operation": "conv1x1", "per": "edge"}, **rest},
        {"width": width},
    )
    chosen = {f"c.{edge}.edge": True for edge in edges}
    off = {name: False for name in space.parameters if name.endswith(".edge")}
    operations = {f"c.{i}.operation": "conv3x3" for i in range(1, 6)}
    return space.graph(space.complete(chosen, off, operations)).blocks[-1].cell


def test_the_width_is_shared_among_what_leads_to_the_output() -> None:
    # vertices 1 -> 2 -> output and 1 -> 3 -> output: two shares of 64; vertex 1 is as wide as its widest reader
    cell = split(["1-2", "1-3", "2-out", "3-out"], 128)
    assert [node.width for node in cell.nodes if node.operation == "conv3x3"] == [64, 64, 64]
    assert (cell.join, cell.cut, cell.out_width([4])) == ("concat", True, 128)
    assert [node.width for node in cell.nodes if node.operation == "conv1x1"] == [64]


def test_what_does_not_divide_is_given_one_channel_a_vertex() -> None:
    # 10 channels over vertices 1, 2 and 3: 4 + 3 + 3, as in compute_vertex_channels of NAS-Bench-101
    cell = split(["0-2", "0-3", "1-out", "2-out", "3-out"], 10)
    widths = [cell.nodes[value - 1].width for value in cell.output]
    assert sorted(widths) == [3, 3, 4]
    assert cell.out_width([4]) == 10


def test_a_vertex_is_as_wide_as_the_widest_that_reads_it() -> None:
    # 7 channels over vertices 2 and 3, which differ in what they read: 4 and 3; vertex 1 feeds both, so it has 4
    cell = split(["1-2", "1-3", "0-3", "2-out", "3-out"], 7)
    convs = [node.width for node in cell.nodes if node.operation == "conv3x3"]
    assert sorted(convs[1:]) == [3, 4]
    assert convs[0] == 4


def test_the_input_is_added_to_the_concatenation_through_a_projection_of_its_own() -> None:
    cell = split(["0-out", "1-out"], 9)
    (added,) = cell.added
    assert shapes(cell)[added - 1] == ("conv1x1", 9, 1)
    assert [node.operation for node in cell.nodes] == ["conv1x1", "conv3x3", "conv1x1"]


def test_the_shares_do_not_depend_on_how_vertices_are_numbered() -> None:
    # a and b share seven channels; a reads the input and b reads c, under every numbering of the three
    keys = set()
    for a, b, c in itertools.permutations((1, 2, 3)):
        if c < b:
            edges = [f"{c}-{b}", f"{a}-out", f"{b}-out", *(f"0-{i}" for i in (a, c) if i > 1)]
            keys.add(NetworkGraph((Block("c", split(edges, 7)),), "relu", "default").key())
    assert len(keys) == 1


# Projections and other shapes


def test_a_projection_a_cell_stands_once_before_all_that_reads_the_input() -> None:
    cell = cell_of(
        space_of({"nodes": 2, "edges": "all", "project": {"operation": "conv7x7", "per": "cell"}}, {"width": 6})
    )
    assert shapes(cell) == [("conv7x7", 6, 1), ("conv1x1", 6, 1), ("conv1x1", 6, 1)]
    assert reads(cell) == [(0,), (1,), (1, 2)]


def test_a_projection_an_edge_stands_on_every_edge_that_leaves_the_input() -> None:
    cell = cell_of(
        space_of({"nodes": 2, "edges": "all", "project": {"operation": "conv7x7", "per": "edge"}}, {"width": 6})
    )
    assert [node.operation for node in cell.nodes] == ["conv7x7", "conv1x1", "conv7x7", "conv1x1"]
    assert reads(cell) == [(0,), (1,), (0,), (2, 3)]


@pytest.mark.parametrize("residual", [False, True])
def test_a_residual_that_meets_another_shape_goes_through_a_projection(residual: bool) -> None:
    cell = cell_of(space_of({"nodes": 1, "residual": residual}, {"width": 6, "stride": 2}))
    assert shapes(cell) == [("conv1x1", 6, 2), ("skip", 6, 2)][: 1 + residual]
    if residual:
        assert cell.nodes[1].activation == "relu"
        assert cell.nodes[1].initialisation == "default"


def test_a_residual_of_the_same_shape_is_the_input_itself() -> None:
    cell = cell_of(space_of({"nodes": 1, "residual": True}))
    assert (cell.output, shapes(cell)) == ((0, 1), [("conv1x1", 4, 1)])


def test_a_sum_of_the_input_and_an_inner_value_meets_the_input_through_one_projection() -> None:
    # nodes 2 and 3 add the input to inner values, and the residual does so at the output: one projection serves all
    cell = cell_of(space_of({"nodes": 3, "edges": "all", "residual": True}, {"width": 6, "stride": 2}))
    assert shapes(cell) == [
        ("conv1x1", 6, 2),
        ("skip", 6, 2),
        ("conv1x1", 6, 1),
        ("conv1x1", 6, 1),
    ]
    assert reads(cell) == [(0,), (0,), (1, 2), (1, 2, 3)]
    assert sorted(cell.output) == [2, 4]


def test_what_reads_the_input_alone_takes_the_stride_itself() -> None:
    names = {"c.1.operation": "avg_pool3x3", "c.2.operation": "conv3x3"}
    space = space_of({"nodes": 2, "operations": ["avg_pool3x3", "conv3x3"]}, {"width": 6, "stride": 2})
    graph = space.graph(space.complete(names, {"c.0-2.edge": True, "c.1-2.edge": False}))
    assert shapes(graph.blocks[-1].cell) == [("avg_pool3x3", 6, 2), ("conv3x3", 6, 2)]
    assert graph.blocks[-1].cell.out_stride([1]) == 2


TWO_INPUTS = {"nodes": 1, "inputs": 2, "edges": 2, "project": {"operation": "conv7x7", "per": "cell"}}


def test_the_farther_of_two_inputs_is_brought_to_the_resolution_of_the_nearer() -> None:
    space = space_of(TWO_INPUTS, {"width": 4}, {"width": 6, "stride": 2}, {"width": 6})
    stem, first, second, third = graph_of(space).blocks
    # the stem stands for both inputs of the first cell
    assert shapes(first.cell) == [("conv7x7", 4, 1), ("conv7x7", 4, 1), ("conv1x1", 4, 1)]
    assert shapes(second.cell) == [("conv7x7", 6, 1), ("conv7x7", 6, 1), ("conv1x1", 6, 2)]
    # behind the reduction, the farther input is twice as fine: a factorized reduction, as DARTS does
    assert shapes(third.cell) == [("conv7x7", 6, 1), ("skip", 6, 2), ("conv1x1", 6, 1)]
    assert reads(third.cell) == [(0,), (1,), (2, 3)]
    assert (stem.depth, third.cell.num_inputs) == (1, 2)
    assert third.cell.out_stride([2, 1]) == 2


def test_cells_of_a_row_are_one_block_once_both_inputs_have_the_stages_shape() -> None:
    space = space_of(TWO_INPUTS, {"width": 4}, {"width": 6, "stride": 2, "depth": 5})
    depths = [(block.name, block.depth) for block in graph_of(space).blocks]
    assert depths == [("stem", 1), ("stages.0", 1), ("stages.1", 1), ("stages.1", 1), ("stages.1", 3)]


# Where a cell is the same


ROWS = ({"depth": [1, 2]}, {"depth": 2})


@pytest.mark.parametrize(
    ("per", "prefixes"),
    [
        ("network", ["c"]),
        ("stage", ["stages.0.cell", "stages.1.cell"]),
        ("layer", ["stages.0.layer0", "stages.0.layer1", "stages.1.layer0", "stages.1.layer1"]),
    ],
)
def test_a_cell_has_parameters_for_each_place_where_it_may_differ(per: str, prefixes: list[str]) -> None:
    space = space_of({"nodes": 1, "per": per}, *ROWS)
    names = [parameter.name for parameter in space.half("operators")]
    assert names == [f"{prefix}.1.operation" for prefix in prefixes]


def test_a_layer_that_is_not_there_has_no_parameters() -> None:
    space = space_of({"nodes": [1, 2], "edges": "chain", "per": "layer"}, *ROWS)
    needs = {parameter.name: parameter.needs for parameter in space.half("structure")}
    assert needs["stages.0.layer0.nodes"] == ()
    assert needs["stages.0.layer1.nodes"] == (("stages.0.depth", (2,)),)
    assert needs["stages.1.layer1.nodes"] == ()
    shallow, deep = (space.complete({"stages.0.depth": depth}, _first(space)).structure for depth in (1, 2))
    assert deep.keys() - shallow.keys() == {"stages.0.layer1.nodes"}


def _first(space: SearchSpace) -> dict[str, Value]:
    return {name: parameter.domain.choices[0] for name, parameter in space.parameters.items()}


def test_layers_that_differ_are_blocks_of_their_own_and_equal_ones_are_one() -> None:
    space = space_of({"nodes": 1, "per": "layer"}, {"depth": 3})
    names = [f"stages.0.layer{layer}.1.operation" for layer in range(3)]
    graph = space.graph(space.complete(dict(zip(names, ["conv1x1", "conv3x3", "conv3x3"], strict=True))))
    assert [(block.cell.nodes[0].operation, block.depth) for block in graph.blocks[1:]] == [
        ("conv1x1", 1),
        ("conv3x3", 2),
    ]


# Limits, pruning, halves


def test_a_member_with_too_many_edges_has_a_flaw_that_says_so() -> None:
    space = space_of({"nodes": 2, "max_edges": 3})
    # input to both nodes, and both leave: four edges. A chain has three.
    both = graph_of(space, c__0to2__edge=True)
    chain = graph_of(space, c__1to2__edge=True)
    assert both.flaw == "cell 'c' has 4 edges, and at most 3 are allowed"
    assert chain.flaw is None


def test_edges_of_nodes_that_lead_nowhere_do_not_count() -> None:
    space = space_of({"nodes": 3, "max_edges": 2, "output": "last"})
    graph = graph_of(space, c__0to2__edge=True, c__1to2__edge=True, c__0to3__edge=True)
    assert graph.flaw is None


FAR = {"nodes": 1, "inputs": 2, "edges": 1, "project": {"operation": "conv1x1", "per": "cell"}}
"""Its only node reads the cell before (`inputs` 0) or the one before that (1)."""


@pytest.mark.parametrize(
    ("depth", "flaw"),
    [
        (1, None),  # both of its inputs are the stem
        (2, "nothing reads cell 1 of the chain"),
        (3, "nothing reads cell 2 of the chain"),
        (4, "nothing reads cell 1 of the chain"),  # but cell 3, which is not read either
    ],
)
@pytest.mark.parametrize("prune", [True, False])
def test_cells_that_read_only_the_far_value_leave_one_that_nobody_reads(
    depth: int, flaw: str | None, prune: bool
) -> None:
    space = space_of(FAR, {"depth": depth}, prune=prune)

    assert graph_of(space, c__2__inputs="1").flaw == flaw
    assert graph_of(space, c__2__inputs="0").flaw is None


def test_cells_that_read_both_values_leave_none_unread() -> None:
    space = space_of({**FAR, "nodes": 2}, {"depth": 3}, {"depth": 2, "stride": 2})

    both = graph_of(space, c__2__inputs="0", c__3__inputs="1")
    far = graph_of(space, c__2__inputs="1", c__3__inputs="1")

    assert both.flaw is None
    assert far.flaw == "nothing reads cell 2 of the chain"


def test_a_value_that_is_read_by_none_operations_alone_is_not_read() -> None:
    cell = {**FAR, "nodes": 2, "slots": "edges", "operations": ["conv3x3", "none"]}
    space = space_of(cell, {"depth": 3})

    kept, cut = (
        graph_of(space, c__2__inputs="0", c__3__inputs="1", c__2__0__operation=near) for near in ("conv3x3", "none")
    )

    assert kept.flaw is None
    assert cut.flaw == "nothing reads cell 2 of the chain"


def test_a_value_that_is_only_added_is_read() -> None:
    space = space_of({**FAR, "residual": True}, {"depth": 3})

    assert graph_of(space, c__2__inputs="1").flaw is None


NONES = {"nodes": 2, "edges": "all", "slots": "edges", "output": "last", "operations": ["none", "skip", "conv3x3"]}


@pytest.mark.parametrize("seed", range(12))
def test_a_space_that_is_not_pruned_keeps_what_does_not_matter_under_the_same_keys(seed: int) -> None:
    pruned, kept = (space_of(NONES, {"depth": 2}, prune=prune) for prune in (True, False))
    member = kept.sample(np.random.default_rng(seed))
    graph, bare = kept.graph(member), pruned.graph(pruned.complete(member.structure, member.operators))
    assert [node.operation for node in graph.blocks[-1].cell.nodes] == [
        member.operators[f"c.{edge}.operation"] for edge in ("0-1", "0-2", "1-2")
    ]
    assert bare.simplified is None
    assert graph.simplified == bare
    assert graph.key() == bare.key()
    assert graph.is_connected is bare.is_connected


def test_a_parameter_moves_to_the_half_that_names_it() -> None:
    halves = {"structure": ["c.?-2.operation"], "operators": ["stages.*.width"]}
    space = space_of(NONES, {"width": [4, 6]}, halves={key: tuple(names) for key, names in halves.items()})
    assert [parameter.name for parameter in space.half("structure")] == ["c.0-2.operation", "c.1-2.operation"]
    assert [parameter.name for parameter in space.half("operators")] == ["stages.0.width", "c.0-1.operation"]
    member = space.sample(np.random.default_rng(0))
    assert member in space
    assert "stages.0.width" in member.operators


def test_a_pattern_that_names_nothing_is_refused_with_the_near_name() -> None:
    with pytest.raises(ConfigError) as caught:
        space_of(NONES, halves={"structure": ("c.0-1.operatoin",)})
    assert str(caught.value).startswith(
        "space.halves.structure: no parameter is called 'c.0-1.operatoin'; did you mean 'c.0-1.operation'? "
        "(known: stem.width, c.nodes, "
    )


def test_a_condition_on_a_parameter_of_the_other_half_is_dropped() -> None:
    activation = {"choices": ["relu", "gelu"], "per": "slot"}
    kept, moved = (
        space_of(NONES, activation=activation, halves={"structure": names}) for names in ((), ("c.0-1.operation",))
    )
    assert kept.parameters["c.0-1.activation"].needs == (("c.0-1.operation", ("skip", "conv3x3")),)
    assert moved.parameters["c.0-1.activation"].needs == ()
    assert moved.parameters["c.0-2.activation"].needs == (("c.0-2.operation", ("skip", "conv3x3")),)


def test_a_condition_on_a_parameter_that_is_not_searched_is_none() -> None:
    space = space_of({"nodes": 2, "per": "layer"}, {"depth": 2})
    assert all(parameter.needs == () for parameter in space.parameters.values())


# Activations where shapes can differ


@pytest.mark.parametrize(
    ("transition", "stride", "users"),
    [("conv3x3", 2, ("conv3x3",)), (None, 2, None), ("max_pool2x2", 2, None)],
)
def test_a_skip_has_an_activation_only_where_it_may_have_to_project(
    transition: str | None, stride: int, users: tuple[str, ...] | None
) -> None:
    space = space_of(
        {"nodes": 1, "operations": ["conv3x3", "skip"]},
        {"width": 6, "stride": stride, "transition": transition},
        activation={"choices": ["relu", "gelu"], "per": "slot"},
    )
    needs = space.parameters["c.1.activation"].needs
    assert needs == (() if users is None else (("c.1.operation", users),))
