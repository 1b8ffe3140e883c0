"""One half of a space as a ConfigSpace."""

from __future__ import annotations

import numpy as np
import pytest
from toy_search import RANGED, ROOMY, choice_parameter, range_parameter, space_of

from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.trial import HALVES
from nasflow_cli.optim.configspace import config_space, plain, sample

PARAMETERS = [
    *(parameter for half in HALVES for parameter in space_of(ROOMY).half(half)),
]


def active(parameters: tuple[Parameter, ...], values: dict[str, object]) -> set[str]:
    """The names that `needs` makes active beside these values; a parent that is not there allows nothing."""
    found: set[str] = set()
    for parameter in parameters:
        if all(name in found and values.get(name) in allowed for name, allowed in parameter.needs):
            found.add(parameter.name)
    return found


@pytest.mark.parametrize("half", HALVES)
def test_every_searched_parameter_is_a_hyperparameter(half: str) -> None:
    parameters = space_of(ROOMY).half(half)  # type: ignore[arg-type]

    made = config_space(parameters, 0)

    assert set(made) == {parameter.name for parameter in parameters}
    assert {child.name for condition in made.conditions for child in [condition.child]} == {
        parameter.name for parameter in parameters if parameter.needs
    }


@pytest.mark.parametrize("half", HALVES)
def test_samples_name_exactly_the_parameters_that_their_needs_allow(half: str) -> None:
    parameters = space_of(ROOMY).half(half)  # type: ignore[arg-type]
    made, rng = config_space(parameters, 0), np.random.default_rng(0)

    drawn = [sample(made, rng) for _ in range(150)]

    assert all(values.keys() == active(parameters, values) for values in drawn)
    assert {len(values) for values in drawn} != {len(parameters)}


@pytest.mark.parametrize("description", [ROOMY, RANGED])
def test_samples_are_plain_values_of_their_domains(description: dict[str, object]) -> None:
    space = space_of(description)
    rng = np.random.default_rng(0)

    for half in HALVES:
        made = config_space(space.half(half), 0)
        for _ in range(40):
            for name, value in sample(made, rng).items():
                assert type(value) in (bool, int, float, str)
                assert value in space.parameters[name].domain


def test_samples_are_spread_over_every_choice() -> None:
    parameter = choice_parameter("p", "a", "b", "c")
    made, rng = config_space([parameter], 0), np.random.default_rng(0)

    drawn = [sample(made, rng)["p"] for _ in range(300)]

    assert all(70 < drawn.count(choice) < 130 for choice in "abc")


def test_a_float_range_is_sampled_on_its_scale() -> None:
    made, rng = config_space([range_parameter("x", 1e-4, 1.0, log=True)], 0), np.random.default_rng(0)

    drawn = [float(sample(made, rng)["x"]) for _ in range(300)]

    assert 120 < sum(value < 1e-2 for value in drawn) < 180


def test_samples_come_from_the_generator_that_is_passed_and_no_other() -> None:
    made = config_space(space_of(ROOMY).half("structure"), 0)
    state = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]

    first = [sample(made, rng) for rng in [np.random.default_rng(3)] for _ in range(5)]
    again = [sample(made, rng) for rng in [np.random.default_rng(3)] for _ in range(5)]
    other = [sample(made, rng) for rng in [np.random.default_rng(4)] for _ in range(5)]

    assert first == again != other
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index, union-attr]


def test_a_parameter_with_two_conditions_exists_only_where_both_hold() -> None:
    parameters = (
        choice_parameter("size", 1, 2, 3, ordered=True),
        choice_parameter("kind", "conv", "pool"),
        choice_parameter("child", "a", "b", needs=[("size", (2, 3)), ("kind", ("conv",))]),
    )
    made, rng = config_space(parameters, 0), np.random.default_rng(0)

    drawn = [sample(made, rng) for _ in range(60)]

    assert {(values["size"], values["kind"]) for values in drawn if "child" in values} == {(2, "conv"), (3, "conv")}
    assert len({(values["size"], values["kind"]) for values in drawn}) == 6


def test_a_parameter_that_hangs_on_one_that_does_not_exist_does_not_exist() -> None:
    parameters = (
        choice_parameter("op", "mbconv", "skip"),
        choice_parameter("se", True, False, needs=[("op", ("mbconv",))]),
        choice_parameter("ratio", 1, 2, needs=[("se", (True,))]),
    )
    made, rng = config_space(parameters, 0), np.random.default_rng(0)

    names = {tuple(sorted(sample(made, rng))) for _ in range(60)}

    assert names == {("op",), ("op", "se"), ("op", "ratio", "se")}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.str_("a"), "a"), (np.int64(3), 3), (np.float64(0.5), 0.5), (np.bool_(True), True), ("b", "b"), (False, False)],
)
def test_numpy_scalars_become_plain_values(value: object, expected: object) -> None:
    found = plain(value)

    assert found == expected
    assert type(found) is type(expected)


def test_what_is_no_value_is_refused() -> None:
    with pytest.raises(TypeError, match="not a value of a parameter"):
        plain([1])
