"""A candidate satisfies its constraints or breaks some, by how much; what is slow to measure is measured last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from measured_networks import graph_of, single
from torch import nn

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import Block, NetworkGraph
from nasflow_cli.core.registry import MEASURES
from nasflow_cli.core.space_config import ConstraintsConfig
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.constraints import LATENCY_RUNS, Constraints, Violation
from nasflow_cli.nets.cost import Cost

SHAPE, NUM_CLASSES = (3, 8, 8), 10
GRAPH = graph_of(Block("stem", single("conv3x3", width=6)))
COST = Cost(
    params=3 * 6 * 9 + 4 * 6 + 70,
    flops=2 * (3 * 6 * 9 * 64 + 60),
    depth=2,
    activation_bytes=4 * ((3 + 6 + 6) * 64 + (6 + 6) * 64 + 6 + 6 + 10),
)
BOUNDED = ("params", "flops", "depth", "activation_bytes")


class Clock:
    """Seconds that go on by themselves: each time that they are read twice, by the next of `steps`."""

    def __init__(self, *steps: float) -> None:
        self.steps = steps
        self.reads = 0
        self.now = 1000.0

    def __call__(self) -> float:
        if self.reads % 2:
            self.now += self.steps[self.reads // 2 % len(self.steps)]
        self.reads += 1
        return self.now


def constraints(config: dict[str, Any], clock: Callable[[], float] | None = None) -> Constraints:
    parsed = ConstraintsConfig.model_validate(config)
    return Constraints(parsed, SHAPE, NUM_CLASSES, clock or Clock(1.0))


def broken(config: dict[str, Any], clock: Callable[[], float] | None = None) -> list[Violation]:
    return constraints(config, clock).violations(GRAPH)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[tuple[Any, ...]]]:
    """Register a measure `mine` that gives a value; returns what it is called with."""
    monkeypatch.setattr(MEASURES, "_entries", dict(MEASURES._entries))

    def register(value: Any) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        def mine(*given: Any) -> Any:
            calls.append(given)
            return value

        MEASURES.register("mine")(mine)
        return calls

    return register


def test_what_is_not_bounded_is_not_broken() -> None:
    assert broken({}) == []


def test_a_member_costs_what_was_worked_out_by_hand() -> None:
    assert constraints({}).cost(GRAPH) == COST


@pytest.mark.parametrize("name", BOUNDED)
def test_each_bound_includes_its_end_and_nothing_behind_it(name: str) -> None:
    value = getattr(COST, name)
    assert broken({name: {"min": value, "max": value}}) == []
    assert broken({name: {"max": value - 1}}) == [
        Violation(name=name, value=float(value), bound=value - 1, below=False)
    ]
    assert broken({name: {"min": value + 1}}) == [Violation(name=name, value=float(value), bound=value + 1, below=True)]


def test_every_broken_bound_is_told() -> None:
    found = broken({name: {"max": 1} for name in BOUNDED})
    assert [(violation.name, violation.value) for violation in found] == [(n, getattr(COST, n)) for n in BOUNDED]


@pytest.mark.parametrize(
    ("value", "bound", "below", "distance"),
    [(300.0, 200.0, False, 0.5), (50.0, 200.0, True, 0.75), (3.0, 0.0, False, 3.0), (200.0, 400.0, True, 0.5)],
)
def test_the_distance_is_a_share_of_the_bound(value: float, bound: float, below: bool, distance: float) -> None:
    assert Violation(name="params", value=value, bound=bound, below=below).distance == pytest.approx(distance)


@pytest.mark.parametrize(
    ("violation", "words"),
    [
        (Violation(name="params", value=5_204_310.0, bound=5e6, below=False), "params 5,204,310 is above 5,000,000"),
        (Violation(name="depth", value=3.0, bound=12, below=True), "depth 3 is below 12"),
        (Violation(name="latency_ms", value=1.23456, bound=0.5, below=False), "latency_ms 1.235 is above 0.5"),
        (Violation(name="mine", value=float("inf"), bound=2.0, below=False), "mine inf is above 2"),
    ],
)
def test_a_violation_says_what_is_where_in_words(violation: Violation, words: str) -> None:
    assert str(violation) == words


def test_a_users_measure_is_called_with_the_graph_and_what_it_is_for(
    measure: Callable[[Any], list[tuple[Any, ...]]],
) -> None:
    calls = measure(7)
    assert broken({"measures": {"mine": {"min": 7, "max": 7}}}) == []
    assert calls == [(GRAPH, SHAPE, NUM_CLASSES)]


@pytest.mark.parametrize("value", [5, 5.0, np.float32(5.0), np.int64(5), Fraction(5)], ids=lambda v: type(v).__name__)
def test_the_number_of_a_users_measure_is_held_to_its_bounds(
    measure: Callable[[Any], list[tuple[Any, ...]]], value: Any
) -> None:
    measure(value)
    assert broken({"measures": {"mine": {"max": 4}}}) == [Violation(name="mine", value=5.0, bound=4, below=False)]
    assert broken({"measures": {"mine": {"min": 6}}}) == [Violation(name="mine", value=5.0, bound=6, below=True)]


def test_a_measure_without_an_upper_end_breaks_every_upper_bound(
    measure: Callable[[Any], list[tuple[Any, ...]]],
) -> None:
    measure(float("inf"))
    (violation,) = broken({"measures": {"mine": {"max": 4}}})
    assert str(violation) == "mine inf is above 4"
    assert violation.distance == float("inf")


@pytest.mark.parametrize("value", [float("nan"), np.float32("nan"), "fast", None, True, 1j, [3.0]], ids=repr)
def test_a_measure_that_gives_no_number_is_the_users_mistake(
    measure: Callable[[Any], list[tuple[Any, ...]]], value: Any
) -> None:
    measure(value)
    with pytest.raises(ConfigError, match=r"space\.constraints\.measures\.mine: the measure gave .*no number"):
        broken({"measures": {"mine": {"max": 4}}})


def test_a_measure_that_nobody_bounds_is_not_taken(measure: Callable[[Any], list[tuple[Any, ...]]]) -> None:
    calls = measure("not even a number")
    assert broken({}) == []
    assert calls == []


def test_the_latency_is_the_median_of_its_passes_in_milliseconds() -> None:
    steps = [0.004, 0.001, 0.002] * 3
    clock = Clock(*steps)
    assert len(steps) == LATENCY_RUNS
    (found,) = broken({"latency_ms": {"max": 1.5}}, clock)
    assert (found.name, found.bound, found.below) == ("latency_ms", 1.5, False)
    assert found.value == pytest.approx(2.0)
    assert clock.reads == 2 * LATENCY_RUNS


@pytest.mark.parametrize(("limits", "count"), [({"max": 2.5}, 0), ({"min": 1.5}, 0), ({"min": 2.5}, 1)], ids=str)
def test_a_latency_is_held_to_both_of_its_bounds(limits: dict[str, float], count: int) -> None:
    assert len(broken({"latency_ms": limits}, Clock(0.002))) == count


def test_the_latency_is_measured_only_if_nothing_else_is_broken(
    measure: Callable[[Any], list[tuple[Any, ...]]],
) -> None:
    measure(5)
    limits = {"max": 1.5}
    for others in ({"params": {"max": 1}}, {"measures": {"mine": {"max": 4}}}):
        clock = Clock(0.002)
        assert [violation.name for violation in broken({"latency_ms": limits, **others}, clock)] != ["latency_ms"]
        assert clock.reads == 0
    clock = Clock(0.002)
    assert [v.name for v in broken({"latency_ms": limits, "params": {"min": 1}}, clock)] == ["latency_ms"]


def test_no_network_is_built_for_a_latency_that_nobody_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: object, **more: object) -> None:
        raise AssertionError

    monkeypatch.setattr("nasflow_cli.nets.constraints.build", never)
    clock = Clock(0.002)
    assert broken({"params": {"min": 1}}, clock) == []
    assert clock.reads == 0


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Watched(nn.Module):
    """Notes under what its passes ran, and may fail."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.seen: list[tuple[Any, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((tuple(x.shape), torch.get_num_threads(), self.training, torch.is_inference_mode_enabled()))
        if self.fails:
            raise RuntimeError("no such layer")
        return x


@pytest.mark.usefixtures("four_threads")
def test_a_pass_is_of_one_example_on_one_thread_as_at_inference_behind_one_that_does_not_count() -> None:
    network, clock = Watched().train(), Clock(0.002)

    found = constraints({}, clock).latency_ms(network)

    assert found == pytest.approx(2.0)
    assert network.seen == [((1, *SHAPE), 1, False, True)] * (LATENCY_RUNS + 1)
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_a_network_that_fails_leaves_the_number_of_threads_as_it_was() -> None:
    with pytest.raises(RuntimeError, match="no such layer"):
        constraints({}).latency_ms(Watched(fails=True))
    assert torch.get_num_threads() == 4


def test_a_real_network_has_a_latency_by_a_real_clock() -> None:
    found = Constraints(ConstraintsConfig(), SHAPE, NUM_CLASSES)
    assert 0.0 < found.latency_ms(build(GRAPH, SHAPE, NUM_CLASSES, seed=0)) < 1000.0


def test_a_network_of_vectors_is_held_to_its_constraints_too() -> None:
    graph: NetworkGraph = graph_of(Block("stem", single("linear", width=4)), activation=None, order="after")
    limits = {"params": {"max": 42}, "latency_ms": {"max": 1.0}}
    for config, names in ((limits, ["params"]), ({**limits, "params": {"max": 43}}, ["latency_ms"])):
        held = Constraints(ConstraintsConfig.model_validate(config), (5,), 3, Clock(0.002))
        assert [violation.name for violation in held.violations(graph)] == names
