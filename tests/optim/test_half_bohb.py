"""One BOHB: hpbandster's generator with another model in it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Configuration
from hpbandster.core.dispatcher import Job
from hpbandster.optimizers.config_generators.bohb import BOHB
from hpbandster.optimizers.iterations.successivehalving import SuccessiveHalving
from toy_search import ROOMY, choice_parameter, range_parameter, space_of

from nasflow_cli.core.architecture import Half, Value
from nasflow_cli.core.parameters import Parameter
from nasflow_cli.core.search_config import DensityConfig
from nasflow_cli.optim import bohb as bohb_module
from nasflow_cli.optim.bohb import HalfBOHB
from nasflow_cli.optim.configspace import sample
from nasflow_cli.optim.density import Density, Vector, encode

PARAMETERS: tuple[Parameter, ...] = (
    *(choice_parameter(f"op{i}", "a", "b", "c", "d", "e") for i in range(6)),
    choice_parameter("size", 1, 2, 4, 8, ordered=True),
    range_parameter("rate"),
)
NESTED: tuple[Parameter, ...] = (
    choice_parameter("op", "conv", "pool"),
    choice_parameter("act", "relu", "gelu", "silu", needs=[("op", ("conv",))]),
    range_parameter("rate"),
)


def loss(values: Half) -> float:
    """Lower is better; zero is the best there is."""
    wrong = sum(values[f"op{i}"] != "abcde"[i % 5] for i in range(6))
    return wrong + abs(float(values["size"]) - 4) / 4 + 2 * abs(float(values["rate"]) - 0.8)


def ratios_of(bohb: HalfBOHB, settings: list[dict[str, Value]]) -> Vector:
    return bohb.log_ratios(np.stack([encode(bohb.parameters, setting) for setting in settings]))


def tell(bohb: HalfBOHB, number: int, values: Half, result: float | None, budget: float = 1.0) -> None:
    """Tell it of a job, as hpbandster's master does."""
    job = Job((0, 0, number), config=values, budget=budget)
    job.result = None if result is None else {"loss": result, "info": {}}
    bohb.new_result(job)


def taught(results: list[float | None], parameters: tuple[Parameter, ...] = PARAMETERS, **config: Any) -> HalfBOHB:
    """A BOHB that knows a row of results of random configurations."""
    bohb = HalfBOHB(parameters, DensityConfig(**config), 0)
    rng = np.random.default_rng(0)
    for number, result in enumerate(results):
        tell(bohb, number, sample(bohb.configspace, rng), result)
    return bohb


def test_it_is_hpbandsters_generator_and_drives_its_brackets() -> None:
    bohb = HalfBOHB(PARAMETERS, DensityConfig(), 0)
    told: list[dict[str, Any]] = []
    for number in range(4):
        bracket = SuccessiveHalving(number, [9, 3, 1], [1.0, 3.0, 9.0], bohb.get_config)
        while (run := bracket.get_next_run()) is not None:
            slot, values, budget = run
            job = Job(slot, config=values, budget=budget)
            job.timestamps, job.result = {}, {"loss": loss(values) - budget, "info": {}}
            bracket.register_result(job)
            bohb.new_result(job)
            told.append(values)
        assert bracket.is_finished

    assert isinstance(bohb, BOHB)
    assert len(told) == 4 * 13
    assert bohb.num_results == 4 * 9
    assert 0.6 < np.mean([bohb.get_config(1.0)[1]["model_based_pick"] for _ in range(60)]) < 0.95


def test_a_rung_is_filled_with_different_configurations_before_any_result() -> None:
    bohb = HalfBOHB(PARAMETERS, DensityConfig(), 0)

    asked = [tuple(bohb.get_config(1.0)[0].items()) for _ in range(20)]

    assert len(set(asked)) == 20


@pytest.mark.parametrize("num_results", [0, 40])
def test_what_hpbandster_is_handed_is_a_valid_configuration(num_results: int) -> None:
    bohb = taught([float(i % 7) for i in range(num_results)], NESTED, bandwidth_floor=0.5)

    handed = [bohb.get_config(1.0)[0] for _ in range(40)]

    for values in handed:
        Configuration(bohb.configspace, values=values)
    assert any(values["op"] == "pool" and "act" not in values for values in handed)
    assert any(values["op"] == "conv" and "act" in values for values in handed)


def test_there_is_no_model_before_there_are_enough_results() -> None:
    few, enough = taught([0.1] * 10), taught([0.1] * 11)

    assert few.propose(5, np.random.default_rng(0)) == []
    assert ratios_of(few, [dict.fromkeys(["op0"], "a")]).tolist() == [0.0]
    assert len(enough.propose(5, np.random.default_rng(0))) == 5


def test_proposals_come_from_the_generator_that_is_passed_and_no_other() -> None:
    bohb = taught([float(i) for i in range(30)])
    state = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]

    first, again, other = (bohb.propose(6, np.random.default_rng(seed)) for seed in (1, 1, 2))
    bohb.get_config(1.0)

    assert first == again != other
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index, union-attr]


def test_proposals_are_the_draws_with_the_best_ratio_best_first() -> None:
    bohb = taught([float(i % 10) for i in range(40)])

    proposed = bohb.propose(16, np.random.default_rng(0))

    ratios = ratios_of(bohb, proposed)
    drawn = ratios_of(bohb, [sample(bohb.configspace, np.random.default_rng(i)) for i in range(50)])
    assert all(high >= low - 1e-9 for high, low in itertools.pairwise(ratios))
    assert ratios[-1] > np.median(drawn)


def test_none_are_proposed_when_none_are_wanted() -> None:
    assert taught([float(i) for i in range(30)]).propose(-1, np.random.default_rng(0)) == []


@pytest.mark.parametrize("crash", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_counts_as_a_crash(crash: float) -> None:
    results: list[float | None] = [float(i % 9) if i % 3 else None for i in range(30)]
    crashed = taught([crash if result is None else result for result in results])

    expected = taught(results).propose(8, np.random.default_rng(0))

    assert crashed.propose(8, np.random.default_rng(0)) == expected


def test_the_densities_are_made_of_so_many_results_from_the_whole_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bohb_module, "MAX_ROWS", 10)
    seen: list[Vector] = []

    class Watched(Density):
        def __init__(self, parameters: Any, rows: Vector, *given: Any) -> None:
            seen.append(rows)
            super().__init__(parameters, rows, *given)

    monkeypatch.setattr(bohb_module, "Density", Watched)
    bohb = HalfBOHB((range_parameter("rate"),), DensityConfig(top_fraction=0.2), 0)
    for number in range(200):  # in an order of their own; the smaller the better
        tell(bohb, number, {"rate": number * 77 % 200 / 200}, number * 77 % 200 / 200)

    bohb.propose(1, np.random.default_rng(0))

    good, bad = (rows[:, 0].tolist() for rows in seen)
    assert (len(good), len(bad)) == (10, 10)
    assert (good[0], good[-1], bad[0], bad[-1]) == (0.0, 0.195, 0.2, 0.995)
    assert np.ptp(np.diff(bad)) < 0.02
    assert bad == sorted(bad)


def test_what_always_fails_is_hardly_proposed() -> None:
    bohb = HalfBOHB(PARAMETERS, DensityConfig(), 0)
    rng = np.random.default_rng(0)
    for number in range(120):
        values = sample(bohb.configspace, rng)
        tell(bohb, number, values, None if values["op0"] == "e" else float(rng.random()))

    proposed = bohb.propose(20, np.random.default_rng(1))

    assert all(values["op0"] != "e" for values in proposed)


def test_results_of_a_cheaper_budget_teach_it_too() -> None:
    bohb = HalfBOHB(PARAMETERS, DensityConfig(), 0)
    rng = np.random.default_rng(0)
    for number in range(60):
        values = sample(bohb.configspace, rng)
        tell(bohb, number, values, 0.0 if values["op0"] == "b" else 1.0, budget=1.0)
    tell(bohb, 60, sample(bohb.configspace, rng), 5.0, budget=9.0)

    proposed = bohb.propose(100, np.random.default_rng(1))

    assert sum(values["op0"] == "b" for values in proposed) > 0.8 * len(proposed)


def test_inactive_parameters_are_proposed_with_a_value_for_the_case_that_they_are_active() -> None:
    bohb = taught([0.0 if i % 2 else 1.0 for i in range(40)], NESTED)

    proposed = bohb.propose(50, np.random.default_rng(0))

    assert all(set(values) == {"op", "act", "rate"} for values in proposed)
    assert all(values["act"] in ("relu", "gelu", "silu") for values in proposed)


def test_the_value_of_a_parameter_that_does_not_exist_beside_its_parent_does_not_matter() -> None:
    bohb = HalfBOHB(NESTED, DensityConfig(), 0)
    rng = np.random.default_rng(0)
    for number in range(40):
        values = sample(bohb.configspace, rng)
        tell(bohb, number, values, 0.0 if values["op"] == "pool" else 1.0)

    proposed = [values for values in bohb.propose(300, np.random.default_rng(1)) if values["op"] == "pool"]

    shares = [np.mean([values["act"] == act for values in proposed]) for act in ("relu", "gelu", "silu")]
    assert all(0.2 < share < 0.47 for share in shares)  # uniform: the model has no opinion on them


def test_what_hangs_on_two_conditions_is_handed_out_only_where_both_hold() -> None:
    parameters = (
        choice_parameter("op", "mbconv", "pool"),
        choice_parameter("se", True, False, needs=[("op", ("mbconv",))]),
        choice_parameter("size", 1, 2, 3, ordered=True),
        choice_parameter("ratio", 1, 2, needs=[("se", (True,)), ("size", (2, 3))]),
    )
    bohb = taught([float(i % 7) for i in range(60)], parameters, bandwidth_floor=0.5)

    handed = [bohb.get_config(1.0)[0] for _ in range(80)]

    for values in handed:
        assert ("se" in values) == (values["op"] == "mbconv")
        assert ("ratio" in values) == (values.get("se") is True and values["size"] != 1)
    assert len({tuple(sorted(values)) for values in handed}) == 3


def best_of(bohb: HalfBOHB, num_results: int, learns: bool) -> float:
    losses = []
    for number in range(num_results):
        values: dict[str, Value] = bohb.get_config(1.0)[0]
        losses.append(loss(values))
        if learns:
            tell(bohb, number, values, losses[-1])
    return min(losses)


def test_it_finds_better_settings_than_random_search() -> None:
    learned = [best_of(HalfBOHB(PARAMETERS, DensityConfig(samples=32), seed), 50, learns=True) for seed in range(12)]
    drawn = [best_of(HalfBOHB(PARAMETERS, DensityConfig(samples=32), seed), 50, learns=False) for seed in range(12)]

    assert np.mean(learned) < np.mean(drawn) - 0.6
    assert sum(a < b for a, b in zip(learned, drawn, strict=True)) >= 9


def test_the_order_of_choices_does_not_decide_how_well_it_searches() -> None:
    """hpbandster's own model reads the codes of choices as numbers; here the best choices get far-apart codes."""
    bohb = HalfBOHB((choice_parameter("p", *"abcde"),), DensityConfig(min_points=2), 0)
    for number, choice in enumerate("aebcdaebcdaebcd"):
        tell(bohb, number, {"p": choice}, 0.0 if choice in "ae" else 1.0)

    proposed = ratios_of(bohb, [{"p": choice} for choice in "abcde"])

    assert min(proposed[0], proposed[4]) > max(proposed[1:4])


def test_a_whole_half_of_a_space_can_be_learned() -> None:
    parameters = space_of(ROOMY).half("structure")
    bohb = HalfBOHB(parameters, DensityConfig(min_points=4), 0)
    rng = np.random.default_rng(0)
    for number in range(50):
        values = sample(bohb.configspace, rng)
        tell(bohb, number, values, float(values["body.nodes"]))  # type: ignore[arg-type]

    proposed = bohb.propose(20, np.random.default_rng(1))

    assert all(values["body.nodes"] == 1 for values in proposed)
