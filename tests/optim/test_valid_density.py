"""The density model: a valid kernel for choices, whatever they are called and however few results there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.nonparametric.api import KDEMultivariate
from toy_search import choice_parameter, codes, range_parameter

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.domain import Domain
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.optim import density as density_module
from nasflow_cli.optim.density import Density, _Levels, decode, encode

FIVE = choice_parameter("five", "a", "b", "c", "d", "e")
FLOOR = 0.05


def density_of_choices(column: list[int], num_choices: int = 5, floor: float = FLOOR) -> np.ndarray:
    parameter = choice_parameter("p", *range(num_choices))
    return np.exp(Density([parameter], codes(*column), floor).log_density(codes(*range(num_choices))))


counts_of_levels = st.lists(st.integers(0, 12), min_size=2, max_size=9).filter(any)


@given(counts_of_levels, st.booleans(), st.booleans(), st.floats(0.001, 0.999))
def test_every_kernel_is_a_distribution_whose_centre_is_its_mode(
    counts: list[int], ordered: bool, optional: bool, floor: float
) -> None:
    column = np.repeat(np.arange(float(len(counts))), counts)
    if optional:
        column[column == len(counts) - 1] = np.nan
    num_choices = len(counts) - optional

    table = _Levels(column[:, None], num_choices, ordered, optional, floor).tables[0]

    assert table.shape == (len(counts), len(counts))
    assert (table >= 0).all()
    np.testing.assert_allclose(table.sum(1), 1.0)
    assert (np.diag(table)[:, None] >= table - 1e-12).all()


@given(counts_of_levels, st.floats(0.001, 0.999))
def test_the_bandwidth_of_a_choice_lies_between_the_floor_and_the_point_where_it_would_turn_round(
    counts: list[int], floor: float
) -> None:
    top = (len(counts) - 1) / len(counts)

    column = np.repeat(np.arange(float(len(counts))), counts)
    table = _Levels(column[:, None], len(counts), False, False, floor).tables[0]

    assert min(floor, top) - 1e-12 <= 1.0 - table[0, 0] <= top + 1e-12


@given(counts_of_levels)
def test_a_choice_that_was_seen_more_often_is_never_held_to_be_less_likely(counts: list[int]) -> None:
    column = np.repeat(np.arange(len(counts)), counts).tolist()

    found = density_of_choices(column, len(counts))

    for i, j in itertools.permutations(range(len(counts)), 2):
        assert counts[i] <= counts[j] or found[i] >= found[j] - 1e-12


def test_the_stock_kernel_prefers_what_was_not_seen_and_ours_does_not() -> None:
    column = [0, 4] * 5
    stock = KDEMultivariate(data=np.array(column, dtype=float), var_type="u", bw="normal_reference")

    ours = density_of_choices(column)

    assert stock.pdf([2]) > stock.pdf([0])
    assert ours[2] < ours[0]
    assert ours[2] < ours[4]


def test_data_that_are_all_equal_are_followed_as_far_as_the_floor_allows() -> None:
    found = density_of_choices([3] * 8)

    np.testing.assert_allclose(found, [FLOOR / 4] * 3 + [1 - FLOOR] + [FLOOR / 4])


def test_data_that_say_nothing_leave_every_choice_alike() -> None:
    np.testing.assert_allclose(density_of_choices([0, 1, 2, 3, 4]), 0.2)


@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_the_order_and_the_names_of_choices_do_not_matter(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    other = range_parameter("x")
    rows = np.column_stack([rng.integers(5, size=12), rng.random(12)]).astype(float)
    queries = np.column_stack([rng.integers(5, size=20), rng.random(20)]).astype(float)
    moved, moved_queries = rows.copy(), queries.copy()
    moved[:, 0] = np.array(order)[rows[:, 0].astype(int)]
    moved_queries[:, 0] = np.array(order)[queries[:, 0].astype(int)]
    renamed = choice_parameter("five", "v", "w", "x", "y", "z")

    before = Density([FIVE, other], rows, FLOOR).log_density(queries)
    after = Density([renamed, other], moved, FLOOR).log_density(moved_queries)

    np.testing.assert_allclose(after, before, atol=1e-9)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.permutations(range(5)))
def test_inactive_is_a_level_that_stays_where_it_is_when_choices_are_renamed(data: list[int], order: list[int]) -> None:
    def column(values: list[int], names: list[int]) -> np.ndarray:
        return codes(*(None if value == 5 else names[value] for value in values))

    optional = np.array([True])
    every = list(range(6))
    before = Density([FIVE], column(data, every), FLOOR, optional).log_density(column(every, every))
    after = Density([FIVE], column(data, order), FLOOR, optional).log_density(column(every, order))

    np.testing.assert_allclose(after, before, atol=1e-9)
    assert np.exp(before).sum() == pytest.approx(1.0)


def test_inactive_is_likely_where_it_was_seen() -> None:
    often = Density([FIVE], codes(None, None, None, 1), FLOOR)
    never = Density([FIVE], codes(0, 0, 0, 1), FLOOR, np.array([True]))

    assert often.log_density(codes(None)) > often.log_density(codes(1)) > often.log_density(codes(0))
    assert never.log_density(codes(None)) < never.log_density(codes(1))


def test_a_parameter_that_is_always_active_is_never_found_inactive() -> None:
    found = Density([FIVE], codes(4, 4, 4, 0), FLOOR).log_density(codes(None, 4))

    assert found[0] < -600
    assert found[1] > -1


def test_the_weight_of_an_ordered_choice_falls_with_its_distance() -> None:
    ordered = choice_parameter("o", 1, 2, 4, 8, 16, ordered=True)

    found = Density([ordered], codes(0, 0, 1, 0, 1, 0), FLOOR).log_density(codes(0, 1, 2, 3, 4))

    assert all(near > far for near, far in itertools.pairwise(found))


@pytest.mark.parametrize("column", [(0.0, 0.01, 0.02), (0.5,), (0.1, None, 0.9, None), (1.0, 1.0), (None, None)])
def test_the_density_of_a_range_integrates_to_one(column: tuple[float | None, ...]) -> None:
    density = Density([range_parameter("x")], codes(*column), FLOOR, np.array([True]))
    middles = (np.arange(4000) + 0.5) / 4000

    total = np.exp(density.log_density(middles[:, None])).mean() + np.exp(density.log_density(codes(None)))[0]

    assert total == pytest.approx(1.0, abs=1e-4)


MIXED = [FIVE, choice_parameter("o", 1, 2, 3, ordered=True), range_parameter("x"), choice_parameter("b", False, True)]
ROWS = np.array(
    [[0, 2, 0.1, 1], [0, np.nan, 0.2, 1], [1, 0, np.nan, 0], [4, 2, 0.15, 1], [0, 2, np.nan, 1], [0, 1, 0.9, 1]]
)


def test_samples_are_values_of_the_space_and_inactive_only_where_that_was_seen() -> None:
    drawn = Density(MIXED, ROWS, FLOOR).sample(3000, np.random.default_rng(0))

    assert drawn.shape == (3000, 4)
    assert np.isnan(drawn).any(0).tolist() == [False, True, True, False]
    assert [set(np.unique(column[~np.isnan(column)])) for column in (drawn[:, 0], drawn[:, 1], drawn[:, 3])] == [
        {0.0, 1.0, 2.0, 3.0, 4.0},
        {0.0, 1.0, 2.0},
        {0.0, 1.0},
    ]
    assert 0.0 <= np.nanmin(drawn[:, 2]) < np.nanmax(drawn[:, 2]) <= 1.0


def test_samples_without_spread_follow_the_density(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density_module, "SPREAD", 1.0)
    density = Density([FIVE], codes(0, 0, 0, 3, None), FLOOR)
    drawn = density.sample(20_000, np.random.default_rng(1))

    shares = [np.mean(drawn == level) for level in range(5)] + [np.isnan(drawn).mean()]

    np.testing.assert_allclose(shares, np.exp(density.log_density(codes(0, 1, 2, 3, 4, None))), atol=0.012)


def test_samples_of_a_range_without_spread_follow_the_density(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density_module, "SPREAD", 1.0)
    density = Density([range_parameter("x")], codes(0.0, 0.1, 0.7), FLOOR)
    drawn = density.sample(20_000, np.random.default_rng(2))[:, 0]

    shares = np.histogram(drawn, bins=10, range=(0, 1))[0] / len(drawn)

    middles = (np.arange(1000) + 0.5) / 1000
    expected = np.exp(density.log_density(middles[:, None])).reshape(10, 100).mean(1) / 10
    np.testing.assert_allclose(shares, expected, atol=0.012)


def test_samples_are_drawn_more_widely_than_the_density_is() -> None:
    density = Density([FIVE, range_parameter("x")], np.column_stack([np.full(9, 2.0), np.full(9, 0.5)]), FLOOR)

    drawn = density.sample(20_000, np.random.default_rng(3))

    assert np.mean(drawn[:, 0] != 2) == pytest.approx(3 * FLOOR, abs=0.012)
    assert drawn[:, 1].std() == pytest.approx(3 * FLOOR, rel=0.05)


def test_equal_seeds_draw_equal_samples_and_others_do_not() -> None:
    density = Density(MIXED, ROWS, FLOOR)

    first, again, other = (density.sample(40, np.random.default_rng(seed)) for seed in (5, 5, 6))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other, equal_nan=True)


words = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=5, unique=True)
numbers = st.lists(st.integers(-50, 50), min_size=1, max_size=5, unique=True)
domains = st.one_of(
    words.map(lambda choices: Domain(kind="categorical", choices=tuple(choices))),
    numbers.map(lambda choices: Domain(kind="ordinal", choices=tuple(sorted(choices)))),
    st.builds(
        lambda low, more: Domain(kind="integer", low=low, high=low + more), st.integers(1, 50), st.integers(1, 99)
    ),
    st.builds(
        lambda low, more, log: Domain(kind="float", low=low, high=low + more, log=log),
        st.floats(0.001, 10),
        st.floats(0.1, 100),
        st.booleans(),
    ),
)


@given(st.lists(domains, max_size=6), st.integers(0, 2**32 - 1))
def test_encoding_and_decoding_give_back_what_went_in(made: list[Domain], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = [Parameter(name=f"p{i}", half="operators", domain=domain) for i, domain in enumerate(made)]
    values: dict[str, Value] = {p.name: p.domain.sample(rng) for p in parameters if rng.random() < 0.8}

    back = decode(parameters, encode(parameters, values))

    assert back.keys() == values.keys()
    for name, value in values.items():
        assert type(back[name]) is type(value)
        assert back[name] == (pytest.approx(value) if isinstance(value, float) else value)
