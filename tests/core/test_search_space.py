"""Search spaces: members, their parameters, completion, edits and sizes, over every form of description."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from described_spaces import DESCRIPTIONS, FACTS, described, space_named
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow_cli.core import decode
from nasflow_cli.core.architecture import Architecture, Half, Value
from nasflow_cli.core.graph import simplify
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.trial import HALVES, Phase

names = st.sampled_from(sorted(DESCRIPTIONS))
seeds = st.integers(0, 2**32)


def drawn(name: str, seed: int) -> tuple[SearchSpace, Architecture]:
    space = space_named(name)
    return space, space.sample(np.random.default_rng(seed))


def merged(architecture: Architecture) -> dict[str, Value]:
    return {**architecture.structure, **architecture.operators}


def reads_of(space: SearchSpace, values: Half) -> list[str]:
    """The parameters that decoding asks for, in order."""
    asked: list[str] = []

    def read(name: str) -> Value:
        asked.append(name)
        return values[name]

    space.decode(read)
    return asked


@settings(max_examples=120, deadline=None)
@given(name=names, seed=seeds)
def test_what_is_drawn_is_a_member(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    assert architecture in space


@settings(max_examples=60, deadline=None)
@given(name=names, seed=seeds)
def test_the_settings_of_a_member_are_its_own_and_those_with_one_value(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    found = space.settings(architecture)
    assert {key: value for key, value in found.items() if key in space.parameters} == merged(architecture)
    assert "stem.width" in found


@settings(max_examples=60, deadline=None)
@given(name=names, seed=seeds)
def test_a_member_comes_back_from_the_text_of_its_json(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    read = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
    assert read == architecture
    assert read in space


@settings(max_examples=120, deadline=None)
@given(name=names, seed=seeds)
def test_completing_a_member_gives_the_member(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    every = {**space.sample_half("structure", np.random.default_rng(0)), "never.heard.of": 1}
    assert space.complete(merged(architecture)) == architecture
    assert space.complete(merged(architecture), every) == architecture


@settings(max_examples=60, deadline=None)
@given(name=names, seed=seeds)
def test_the_first_source_that_names_a_parameter_decides(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    rng = np.random.default_rng(seed + 1)
    completed = space.complete(architecture.structure, space.sample_half("operators", rng))
    assert completed.structure == architecture.structure
    assert completed in space


@settings(max_examples=80, deadline=None)
@given(name=names, seed=seeds)
def test_only_what_matters_is_named_and_all_of_it(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    values = merged(architecture)
    assert set(reads_of(space, values)) == set(values)
    for lost in values:
        with pytest.raises(KeyError):
            space.graph(
                Architecture(
                    structure={k: v for k, v in architecture.structure.items() if k != lost},
                    operators={k: v for k, v in architecture.operators.items() if k != lost},
                )
            )


@settings(max_examples=80, deadline=None)
@given(name=names, seed=seeds)
def test_a_parameter_too_many_or_too_few_or_in_the_other_half_is_no_member(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    for parameter in space.parameters.values():
        value = parameter.domain.sample(np.random.default_rng(0))
        halves = {half: dict(getattr(architecture, half)) for half in HALVES}
        if parameter.name in halves[parameter.half]:
            moved = halves[parameter.half].pop(parameter.name)
            assert Architecture(**halves) not in space
            halves["operators" if parameter.half == "structure" else "structure"][parameter.name] = moved
        else:
            halves[parameter.half][parameter.name] = value
        assert Architecture(**halves) not in space


@pytest.mark.parametrize("value", [99, "conv3x3", 1.5, True, None])
def test_a_value_outside_its_domain_is_no_member(value: Any) -> None:
    space, architecture = drawn("NAS-Bench-201: operations on all edges", 0)
    changed = Architecture(structure={**architecture.structure, "stem.width": value}, operators=architecture.operators)
    assert changed not in space


def test_what_is_no_architecture_is_no_member() -> None:
    assert {"structure": {}, "operators": {}} not in drawn("chains in ranges, everything a slot", 0)[0]


unmoved = st.sampled_from([name for name in sorted(DESCRIPTIONS) if "halves" not in DESCRIPTIONS[name]])


@settings(max_examples=80, deadline=None)
@given(name=unmoved, seed=seeds)
def test_structure_is_read_before_operators(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    halves = [space.parameters[asked].half for asked in reads_of(space, merged(architecture))]
    assert halves == sorted(halves, key=HALVES.index)


@settings(max_examples=80, deadline=None)
@given(name=names, seed=seeds)
def test_which_structure_there_is_does_not_depend_on_operators(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    other = space.complete(architecture.structure, space.sample_half("operators", np.random.default_rng(seed + 1)))
    assert other.structure == architecture.structure


def assert_the_same_whatever_was_decoded_before(space: SearchSpace, seed: int, num_members: int) -> None:
    """Of members that differ in one parameter from the one before."""
    rng = np.random.default_rng(seed)
    members = [space.sample_member(rng)]
    while len(members) < num_members:
        members.append(space.edit_member(members[-1][0], "both", rng))

    for member, graph in members:
        alone = SearchSpace(space.config, FACTS).graph(member)
        assert repr((graph, graph.simplified)) == repr((alone, alone.simplified))


@settings(max_examples=50, deadline=None)
@given(name=names, seed=seeds, room=st.sampled_from([1, 3, 999]))
def test_a_member_is_the_same_whatever_was_decoded_before(name: str, seed: int, room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "MAX_CELLS", room)
        assert_the_same_whatever_was_decoded_before(SearchSpace(space_named(name).config, FACTS), seed, 12)


def test_cells_that_only_their_width_or_their_stage_tells_apart_are_told_apart() -> None:
    stage = {"cell": "body", "width": [4, 6], "transition": None}
    alike = described(
        {
            "stem": {"width": 4},
            "cells": {"body": {"nodes": 1, "operations": ["conv3x3", "conv1x1"]}},
            "stages": [stage, stage],
            "activation": {"choices": ["relu", "gelu"], "per": "stage"},
        }
    )

    assert_the_same_whatever_was_decoded_before(alike, 0, 60)


@settings(max_examples=150, deadline=None)
@given(name=names, seed=seeds, half=st.sampled_from(HALVES))
def test_an_edit_is_another_member(name: str, seed: int, half: Phase) -> None:
    space, architecture = drawn(name, seed)
    edited = space.edit(architecture, half, np.random.default_rng(seed))
    assert edited in space
    old, new = getattr(architecture, half), getattr(edited, half)
    assert sum(name in new and new[name] != value for name, value in old.items()) == 1


def test_an_edit_reaches_every_value_of_a_range_but_the_one_it_has() -> None:
    space = described(
        {
            "stem": {"width": 4},
            "cells": {"c": {"nodes": 1, "operations": ["conv3x3", "conv1x1"]}},
            "stages": [{"cell": "c", "width": 4, "depth": {"min": 1, "max": 3}}],
        }
    )
    start = space.complete({"stages.0.depth": 2, "c.1.operation": "conv3x3"})
    edits = {space.edit(start, "structure", np.random.default_rng(i)).structure["stages.0.depth"] for i in range(40)}
    assert edits == {1, 3}


def test_a_half_without_anything_to_choose_is_not_edited() -> None:
    space = described(
        {
            "stem": {"width": 4},
            "cells": {"c": {"nodes": 1, "operations": ["conv3x3", "conv1x1"]}},
            "stages": [{"cell": "c", "width": 4}],
        }
    )
    architecture = space.sample(np.random.default_rng(0))
    assert space.half("structure") == ()
    assert space.edit(architecture, "structure", np.random.default_rng(0)) is architecture


def settings_of(space: SearchSpace, half: Phase) -> int:
    """Count the settings of a half by going through all of them, without what their conditions leave out."""
    parameters = space.half(half)
    distinct = set()
    for values in itertools.product(*(parameter.domain.values for parameter in parameters)):
        exists: dict[str, Value] = {}
        for parameter, value in zip(parameters, values, strict=True):
            if all(exists.get(name) in allowed for name, allowed in parameter.needs):
                exists[parameter.name] = value
        distinct.add(tuple(exists.items()))
    return len(distinct)


SMALL: dict[str, tuple[dict[str, Any], int, int]] = {
    # nodes 1, 2, 3 have 0, 2, 5 edges to choose: 1 + 4 + 32
    "free edges": (
        {
            "stem": {"width": [4, 6]},
            "cells": {"c": {"nodes": [1, 2, 3], "operations": ["conv3x3", "skip"], "residual": [True, False]}},
            "stages": [{"cell": "c", "width": 4, "depth": [1, 2]}],
        },
        2 * (1 + 4 + 32) * 2 * 2,
        2**3,
    ),
    "a fixed number of nodes": (
        {
            "stem": {"width": 4},
            "cells": {"c": {"nodes": 3, "operations": ["conv3x3", "skip"], "slots": "edges"}},
            "stages": [{"cell": "c", "width": 4}],
        },
        2**5,
        2**6,
    ),
    "a range of nodes": (
        {
            "stem": {"width": 4},
            "cells": {"c": {"nodes": {"min": 1, "max": 2}, "operations": "conv3x3"}},
            "stages": [{"cell": "c", "width": [4, 5]}],
            "activation": {"choices": ["relu", "gelu"], "per": "stage"},
        },
        2 * (1 + 4),
        2,
    ),
    # a slot is a convolution (2 activations, 3 initialisations) or one of two others; transition and head have theirs,
    # and nothing stands before the stem's convolution
    "everything a slot": (
        {
            "stem": {"width": 4},
            "cells": {"c": {"nodes": 2, "edges": "chain", "operations": ["conv3x3", "skip", "avg_pool3x3"]}},
            "stages": [{"cell": "c", "width": 4, "transition": "conv1x1", "stride": 2}],
            "activation": {"choices": ["relu", "gelu"], "per": "slot"},
            "initialisation": {"choices": ["default", "kaiming_normal", "orthogonal"], "per": "slot"},
        },
        1,
        (2 * 3 + 1 + 1) ** 2 * (2 * 3) ** 2 * 3,
    ),
}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", [name for name in SMALL if name != "everything a slot"])
def test_the_size_of_a_half_is_what_counting_gives(name: str, half: Phase) -> None:
    space = described(SMALL[name][0])
    assert space.size(half) == settings_of(space, half)


@pytest.mark.parametrize("name", SMALL)
def test_the_sizes_are_those_worked_out_by_hand(name: str) -> None:
    description, structures, operators = SMALL[name]
    space = described(description)
    assert (space.size("structure"), space.size("operators")) == (structures, operators)


@pytest.mark.parametrize("name", ["free edges", "a range of nodes"])
def test_the_size_counts_the_structures_that_members_have(name: str) -> None:
    space = described(SMALL[name][0])
    operators = space.sample_half("operators", np.random.default_rng(0))
    parameters = space.half("structure")
    found = set()
    for values in itertools.product(*(parameter.domain.values for parameter in parameters)):
        named = {parameter.name: value for parameter, value in zip(parameters, values, strict=True)}
        found.add(tuple(space.complete(named, operators).structure.items()))
    assert len(found) == space.size("structure")


@pytest.mark.parametrize("residual", [False, True])
def test_a_cell_whose_last_node_has_no_edges_is_disconnected_but_for_its_residual(residual: bool) -> None:
    space = described(
        {
            "stem": {"width": 4},
            "cells": {"c": {"nodes": 2, "output": "last", "operations": ["conv3x3", "skip"], "residual": residual}},
            "stages": [{"cell": "c", "width": 4}],
        }
    )
    off = {name: False for name in space.parameters if name.endswith(".edge")}
    graph = space.graph(space.complete(off, {"c.1.operation": "conv3x3", "c.2.operation": "conv3x3"}))
    assert off.keys() == {"c.0-2.edge", "c.1-2.edge"}
    assert graph.is_connected is residual
    assert graph.blocks[-1].cell.nodes == ()


def test_a_cell_of_nothing_but_none_is_disconnected() -> None:
    space = space_named("NAS-Bench-201: operations on all edges")
    nothing = {name: "none" for name in space.parameters if name.endswith(".operation")}
    graph = space.graph(space.complete(nothing, {"stem.width": 4}))
    assert not graph.is_connected


def test_a_transition_stands_where_width_or_resolution_changes_and_nowhere_else() -> None:
    space = space_named("free edges between nodes, residual or not, activations a stage")
    rng = np.random.default_rng(0)
    for first in (4, 6):
        for stem in (4, 6):
            widths = {"stem.width": stem, "stages.0.width": first}
            graph = space.graph(space.complete(widths, *(space.sample_half(half, rng) for half in HALVES)))
            shapes = [
                (block.name, {(node.width, node.stride) for node in block.cell.nodes})
                for block in graph.blocks
                if block.name == "stem" or block.name.endswith("transition")
            ]
            changed = [("stages.0.transition", {(first, 1)})] if first != stem else []
            assert shapes == [("stem", {(stem, 1)}), *changed, ("stages.1.transition", {(6, 2)})]
            assert all(node.stride == 1 for block in graph.blocks[1:-2] for node in block.cell.nodes)


@settings(max_examples=60, deadline=None)
@given(name=names, seed=seeds)
def test_a_decoded_cell_is_simplified(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    width = 3
    graph = space.graph(architecture)
    for block in (graph.simplified or graph).blocks:
        widths = block.cell.widths([width, width])
        assert simplify(block.cell, FACTS, [width, width]) == block.cell or block.name == "stem"
        for node in block.cell.nodes:
            fact = FACTS[node.operation]
            projects = fact.projects(block.cell.in_width(node, widths), node.width, node.stride)
            assert not fact.zero
            assert projects or not fact.identity or block.cell.join != "sum"
            assert (node.initialisation is not None) == (fact.weighted or projects)
            if block.name != "stem":
                assert (node.activation is not None) == (fact.activated or projects)
        width = block.cell.out_width([width, width])


@settings(max_examples=80, deadline=None)
@given(name=names, seed=seeds)
def test_what_exists_by_its_conditions_is_all_that_a_member_can_name(name: str, seed: int) -> None:
    space, architecture = drawn(name, seed)
    for half in HALVES:
        values = getattr(architecture, half)
        for parameter in space.half(half):
            if parameter.name in values:
                assert all(values[parent] in allowed for parent, allowed in parameter.needs)
