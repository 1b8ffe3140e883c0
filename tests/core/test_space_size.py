"""The number of settings of parameters with conditions: what going through all of them gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow_cli.core.domain import Domain, categorical
from nasflow_cli.core.parameters import Condition, Parameter
from nasflow_cli.core.space_size import num_settings


def parameter(name: str, domain: Domain, *needs: Condition) -> Parameter:
    return Parameter(name=name, half="operators", domain=domain, needs=needs)


def counted(parameters: Sequence[Parameter]) -> int:
    """Go through all settings; a parameter exists where all that it needs exists and has a value that it needs."""
    distinct = set()
    for values in itertools.product(*(each.domain.values for each in parameters)):
        exists: dict[str, Any] = {}
        for each, value in zip(parameters, values, strict=True):
            if all(name in exists and exists[name] in allowed for name, allowed in each.needs):
                exists[each.name] = value
        distinct.add(tuple(exists.items()))
    return len(distinct)


DOMAINS = st.one_of(
    st.integers(1, 3).map(lambda size: categorical(*"abc"[:size])),
    st.integers(1, 3).map(lambda size: Domain(kind="ordinal", choices=(1, 4, 9)[:size])),
    st.just(Domain(kind="integer", low=2, high=4)),
    st.just(categorical(False, True)),
)


@st.composite
def trees(draw: st.DrawFn) -> list[Parameter]:
    """Up to seven parameters, each of which needs up to three of those before it; in any order."""
    made: list[Parameter] = []
    for number in range(draw(st.integers(1, 7))):
        parents = draw(st.lists(st.sampled_from(made), max_size=3, unique_by=lambda each: each.name)) if made else []
        needs = [
            (parent.name, tuple(draw(st.sets(st.sampled_from(parent.domain.values), min_size=1)))) for parent in parents
        ]
        made.append(parameter(f"p{number}", draw(DOMAINS), *needs))
    return made


@settings(max_examples=150, deadline=None)
@given(parameters=trees(), data=st.data())
def test_the_size_is_what_going_through_all_settings_gives(parameters: list[Parameter], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(parameters))
    assert num_settings(shuffled) == counted(parameters)


def test_a_parameter_with_two_parents_exists_only_where_both_allow_it() -> None:
    a, b = (parameter(name, categorical(1, 2, 3)) for name in "ab")
    both = parameter("c", categorical(*"uvwxy"), ("a", (1, 2)), ("b", (3,)))
    # 9 settings of the two parents; in 2 of them the third is there, with 5 values
    assert num_settings([a, b, both]) == 7 + 2 * 5


def test_what_hangs_on_a_parameter_that_does_not_exist_does_not_exist() -> None:
    op = parameter("op", categorical("mbconv", "skip"))
    se = parameter("se", categorical(True, False), ("op", ("mbconv",)))
    ratio = parameter("ratio", categorical(2, 4, 8), ("se", (True,)))
    assert num_settings([op, se, ratio]) == 1 + (1 + 3)


def test_nothing_to_search_is_one_setting() -> None:
    assert num_settings([]) == 1


def test_a_range_of_numbers_cannot_be_counted_wherever_it_stands() -> None:
    op = parameter("op", categorical("a", "b"))
    assert num_settings([op, parameter("rate", Domain(kind="float", low=0.0, high=1.0), ("op", ("a",)))]) is None


def test_groups_without_conditions_between_them_are_counted_apart() -> None:
    # 40 slots, each a convolution with one of two activations or one of two others: far too many to go through
    slots = [parameter(f"{i}.op", categorical("conv", "skip", "pool")) for i in range(40)]
    acts = [parameter(f"{i}.act", categorical("relu", "gelu"), (f"{i}.op", ("conv",))) for i in range(40)]
    assert num_settings([*slots, *acts]) == 4**40
