"""The learning rate over a training, by hand-worked values of each schedule."""

from __future__ import annotations

import pytest

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.train.schedule import Schedule


def schedule(kind: str, budget: int, horizon: int = 20, **recipe: float) -> Schedule:
    given = {"learning_rate": 0.1, "warmup_epochs": 2, **recipe}
    return Schedule(recipe=TrainingConfig(schedule=kind, **given), budget=budget, horizon=horizon)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["constant", "decay"])
def test_the_rate_rises_over_the_warm_up_and_then_stays(kind: str) -> None:
    rates = [schedule(kind, 20).rate(at) for at in (0.5, 1.0, 2.0, 10.0, 16.0)]
    assert rates == pytest.approx([0.025, 0.05, 0.1, 0.1, 0.1])


def test_a_constant_rate_stays_to_the_end_of_every_rung() -> None:
    assert schedule("constant", 5).rate(4.99) == schedule("constant", 20).rate(19.99) == 0.1


def test_decay_falls_in_a_line_to_nothing_over_its_share_of_the_rung() -> None:
    falling = schedule("decay", 10, decay_fraction=0.4)
    assert falling.stem == 6
    assert [falling.rate(at) for at in (6.0, 8.0, 9.0, 10.0)] == pytest.approx([0.1, 0.05, 0.025, 0.0])


def test_two_rungs_of_a_decay_have_the_stem_of_the_smaller_in_common() -> None:
    small, large = (schedule("decay", budget, decay_fraction=0.4) for budget in (10, 20))
    assert all(small.rate(at / 7) == large.rate(at / 7) for at in range(7 * small.stem))


@pytest.mark.parametrize("fraction", [0.2, 0.9])
def test_a_rung_of_one_epoch_has_nothing_to_decay(fraction: float) -> None:
    assert schedule("decay", 1, warmup_epochs=0.0, decay_fraction=fraction).rate(0.99) == 0.1


def test_a_cosine_is_half_of_the_rate_in_the_middle_of_the_longest_training_whatever_the_rung() -> None:
    small, large = schedule("cosine", 10), schedule("cosine", 20)
    assert small.rate(10.0) == large.rate(10.0) == pytest.approx(0.05)
    assert large.rate(20.0) == pytest.approx(0.0)


@pytest.mark.parametrize("kind", ["constant", "decay", "cosine"])
def test_no_step_of_a_training_has_a_rate_of_nothing(kind: str) -> None:
    steps, budget = 7, 20
    assert all(schedule(kind, budget).rate((step + 0.5) / steps) > 0 for step in range(budget * steps))


@pytest.mark.parametrize(
    ("kind", "budget", "leaves"), [("decay", 10, True), ("decay", 20, False), ("cosine", 10, False)]
)
def test_only_a_smaller_rung_of_a_decay_leaves_a_stem(kind: str, budget: int, leaves: bool) -> None:
    assert schedule(kind, budget).leaves_stem is leaves
