"""What follows from the description of every space that ships: members, encodings, edits. Nothing is built."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ConfigSpace import Configuration
from hypothesis import given
from shipped_spaces import NAMES, constraints, drawn, feasible, few, merged, seeds, space

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.trial import HALVES, Phase
from nasflow_cli.optim.configspace import config_space, plain, sample
from nasflow_cli.optim.density import decode, encode

every_space = pytest.mark.parametrize("name", NAMES)
every_half = pytest.mark.parametrize("half", HALVES)


def test_six_spaces_ship() -> None:
    assert {"darts", "mlp", "mobilenet", "nasbench101", "nasbench201", "resnet"} <= set(NAMES)


@every_space
@few(10)
@given(seed=seeds)
def test_a_member_comes_back_from_its_json(name: str, seed: int) -> None:
    architecture, graph = drawn(name, seed)

    read = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))

    assert read == architecture
    assert read in space(name)
    assert space(name).graph(read) == graph


@every_space
@few(10)
@given(seed=seeds)
def test_completing_a_member_s_parameters_gives_the_member(name: str, seed: int) -> None:
    architecture, _ = drawn(name, seed)

    assert space(name).complete(merged(architecture)) == architecture
    assert space(name).complete({**merged(drawn(name, seed + 1)[0]), **merged(architecture)}) == architecture


@every_space
@every_half
@few(5)
@given(seed=seeds)
def test_a_drawn_configuration_is_legal_and_gives_a_member(name: str, half: Phase, seed: int) -> None:
    rng, described = np.random.default_rng(seed), space(name)
    compiled = {each: config_space(described.half(each), 0) for each in HALVES}
    drawn_values = {each: sample(compiled[each], rng) for each in HALVES}

    architecture = described.complete(drawn_values["structure"], drawn_values["operators"])

    assert architecture in described
    chosen = getattr(architecture, half)
    assert chosen.items() <= drawn_values[half].items()
    configuration = Configuration(compiled[half], values={**drawn_values[half], **chosen})
    configuration.check_valid_configuration()
    assert {key: plain(value) for key, value in dict(configuration).items()} == drawn_values[half]


@every_space
@every_half
@few(10)
@given(seed=seeds)
def test_a_half_comes_back_from_the_vector_that_the_density_model_sees(name: str, half: Phase, seed: int) -> None:
    chosen = getattr(drawn(name, seed)[0], half)
    parameters = space(name).half(half)

    assert decode(parameters, encode(parameters, chosen)) == chosen


@every_space
@few(5)
@given(seed=seeds)
def test_a_member_that_passes_the_filter_satisfies_the_constraints(name: str, seed: int) -> None:
    architecture, graph = feasible(name, seed)

    assert architecture in space(name)
    about, limits = constraints(name).cost(graph), constraints(name).config
    for measure in ("params", "flops", "depth", "activation_bytes"):
        bounds, value = getattr(limits, measure), getattr(about, measure)
        assert (bounds.min or 0) <= value <= (bounds.max or value)
    assert graph.is_connected


@every_space
@every_half
@few(8)
@given(seed=seeds)
def test_an_edit_is_a_member_that_differs_in_one_parameter_and_what_it_activates(
    name: str, half: Phase, seed: int
) -> None:
    described, (architecture, _) = space(name), drawn(name, seed)

    edited, graph = described.edit_member(architecture, half, np.random.default_rng(seed))

    assert edited in described
    assert graph == described.graph(edited)
    before, after = merged(architecture), merged(edited)
    changed = [key for key in before.keys() & after.keys() if before[key] != after[key]]
    assert len(changed) == 1
    assert changed[0] in getattr(architecture, half)
    assert described.complete({changed[0]: after[changed[0]]}, before, after) == edited


@every_space
@few(10)
@given(seed=seeds)
def test_the_same_generator_draws_the_same_member(name: str, seed: int) -> None:
    assert drawn(name, seed) == drawn(name, seed)
    assert len({json.dumps(drawn(name, seed + n)[0].to_json()) for n in range(5)}) > 1
