"""Domains: what they hold, what is drawn from them, and the way of a range to [0, 1] and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow_cli.core.domain import MAX_CHOICES, Domain, categorical, parse_domain

whole_ranges = st.tuples(st.integers(1, 1000), st.integers(1, 1000), st.booleans()).map(
    lambda drawn: parse_domain({"min": drawn[0], "max": drawn[0] + drawn[1], "log": drawn[2]})
)
real_ranges = st.tuples(st.floats(1e-6, 1e3), st.floats(1e-3, 1e3), st.booleans()).map(
    lambda drawn: parse_domain({"min": drawn[0], "max": drawn[0] + drawn[1], "log": drawn[2]})
)
choices = st.lists(st.integers(-5, 5) | st.sampled_from(["a", "b"]) | st.booleans(), min_size=1, unique_by=repr)
domains = whole_ranges | real_ranges | choices.map(parse_domain)


@settings(max_examples=100, deadline=None)
@given(domain=domains, seed=st.integers(0, 2**32))
def test_a_drawn_value_is_a_plain_member(domain: Domain, seed: int) -> None:
    value = domain.sample(np.random.default_rng(seed))
    assert value in domain
    assert type(value) in (bool, int, float, str)


@settings(max_examples=100, deadline=None)
@given(domain=whole_ranges, data=st.data())
def test_every_whole_number_of_a_range_comes_back_from_its_position(domain: Domain, data: st.DataObject) -> None:
    value = data.draw(st.integers(int(domain.low), int(domain.high)))
    assert domain.from_unit(domain.to_unit(value)) == value


@settings(max_examples=100, deadline=None)
@given(domain=real_ranges, share=st.floats(0, 1))
def test_a_real_number_of_a_range_comes_back_up_to_rounding(domain: Domain, share: float) -> None:
    value = domain.low + share * (domain.high - domain.low)
    assert domain.from_unit(domain.to_unit(value)) == pytest.approx(value, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(domain=whole_ranges | real_ranges, positions=st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_positions_in_order_give_members_in_order(domain: Domain, positions: list[float]) -> None:
    values = [domain.from_unit(position) for position in sorted(positions)]
    assert values == sorted(values)
    assert all(value in domain for value in values)


def test_the_ends_of_the_unit_interval_are_the_ends_of_the_range() -> None:
    domain = parse_domain({"min": 3, "max": 9})
    assert [domain.from_unit(0.0), domain.from_unit(1.0)] == [3, 9]


def test_every_whole_number_of_a_range_is_drawn_equally_often() -> None:
    rng, domain = np.random.default_rng(0), parse_domain({"min": 2, "max": 5})
    counts = np.bincount([int(domain.sample(rng)) for _ in range(8000)], minlength=6)
    assert counts[:2].tolist() == [0, 0]
    assert counts[2:] == pytest.approx([2000] * 4, abs=5 * math.sqrt(2000))


def test_a_logarithmic_range_gives_each_factor_the_same_share() -> None:
    domain = parse_domain({"min": 1.0, "max": 10_000.0, "log": True})
    assert [domain.from_unit(share) for share in (0.25, 0.5, 0.75)] == pytest.approx([10, 100, 1000])


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        (categorical(True, False), 1),
        (parse_domain([1, 2]), True),
        (parse_domain([1, 2]), 1.0),
        (parse_domain({"min": 1, "max": 3}), 2.0),
        (parse_domain({"min": 1, "max": 3}), True),
        (parse_domain({"min": 1, "max": 3}), 4),
        (parse_domain({"min": 1.0, "max": 3.0}), 2),
        (parse_domain({"min": 1.0, "max": 3.0}), math.nan),
        (parse_domain(["a"]), "b"),
        (parse_domain(["a"]), None),
    ],
)
def test_a_value_of_another_kind_is_no_member(domain: Domain, value: object) -> None:
    assert value not in domain


@pytest.mark.parametrize(
    ("raw", "kind", "values"),
    [
        ([32, 16, 24], "ordinal", (16, 24, 32)),
        ([2, 0.5], "ordinal", (0.5, 2.0)),
        (["b", "a"], "categorical", ("b", "a")),
        ([True, False], "categorical", (True, False)),
        (8, "ordinal", (8,)),
        ("conv", "categorical", ("conv",)),
        (False, "categorical", (False,)),
        ({"choices": [3, 1]}, "ordinal", (1, 3)),
        ({"min": 16, "max": 32, "step": 8}, "ordinal", (16, 24, 32)),
        ({"min": 16, "max": 31, "step": 8}, "ordinal", (16, 24)),
        ({"min": 0, "max": 1, "step": 0.25}, "ordinal", (0.0, 0.25, 0.5, 0.75, 1.0)),
    ],
)
def test_numbers_are_ordered_and_words_are_not(raw: object, kind: str, values: tuple[object, ...]) -> None:
    domain = parse_domain(raw)
    assert (domain.kind, domain.choices) == (kind, values)
    assert [type(choice) for choice in domain.choices] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("raw", "size", "fixed"),
    [
        ([1, 2, 3], 3, False),
        ("a", 1, True),
        ({"min": 4, "max": 9}, 6, False),
        ({"min": 4.0, "max": 9.0}, None, False),
        ({"min": 4, "max": 9.5}, None, False),
    ],
)
def test_the_size_counts_the_values(raw: object, size: int | None, fixed: bool) -> None:
    domain = parse_domain(raw)
    assert (domain.size, domain.is_fixed) == (size, fixed)


@settings(max_examples=60, deadline=None)
@given(domain=domains)
def test_a_domain_that_is_written_out_is_read_back_the_same(domain: Domain) -> None:
    assert parse_domain(domain.to_yaml()) == domain


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([], "an empty domain: give at least one choice"),
        ({"choices": []}, "an empty domain: give at least one choice"),
        ({"min": 3, "max": 3}, "an empty domain: min (3) must be below max (3)"),
        ({"min": 5, "max": 3}, "an empty domain: min (5) must be below max (3)"),
        ({"min": 5, "max": 3, "step": 1}, "an empty domain: give at least one choice"),
        ([16, 24, 16], "a choice stands twice"),
        ([16, 16.0], "a choice stands twice"),
        (["a", "a"], "a choice stands twice"),
        ({"min": 0, "max": 3, "log": True}, "a logarithmic range needs a min above 0"),
        ({"min": 1, "max": 3, "log": 1}, "`log` is true or false, not 1"),
        ({"min": 1, "max": 9, "step": 2, "log": True}, "does not go with `log`"),
        ({"min": 1, "max": 9, "step": 0}, "`step` is above 0"),
        ({"min": 1, "max": 9, "step": -2}, "`step` is above 0"),
        ({"min": 0, "max": 1, "step": 1e-9}, f"more than {MAX_CHOICES} values"),
        ({"min": 0.0, "max": 1e308, "step": 1e-300}, f"more than {MAX_CHOICES} values"),
        ({"min": 1}, "a range needs both `min` and `max`"),
        ({}, "a range needs both `min` and `max`"),
        ({"min": "1", "max": 3}, "a range is made of finite numbers, not '1'"),
        ({"min": True, "max": 3}, "a range is made of finite numbers, not True"),
        ({"min": 1, "max": math.inf}, "a range is made of finite numbers, not inf"),
        ({"min": 1, "max": 10**400}, "a range is made of finite numbers, not 1000"),
        ({"choises": [3]}, "a domain has no key 'choises'; did you mean 'choices'? (known: "),
        ({"choices": [1], "log": True}, "`choices` is a list, and stands alone"),
        ({"choices": 1}, "`choices` is a list, and stands alone"),
        ([1, None], "a choice is a number, a word or true/false, not None"),
        ([[1]], "a choice is a number, a word or true/false, not [1]"),
        ([1.0, math.nan], "a choice is a finite number, not nan"),
        (math.inf, "a choice is a finite number, not inf"),
        (None, "a domain is a value, a list of values, or {min: , max: }"),
    ],
)
def test_what_is_no_domain_is_refused(raw: Any, says: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the message is compared below)
        parse_domain(raw)
    assert says in str(caught.value)


def test_a_word_has_no_place_in_a_range() -> None:
    with pytest.raises(TypeError, match="only numbers lie in a range"):
        parse_domain({"min": 1, "max": 3}).to_unit("two")
