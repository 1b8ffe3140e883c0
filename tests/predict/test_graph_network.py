"""The graph network: what it learns, what it reads, and that nothing but its seed decides."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scored_graphs import SMALL, SPOKEN, STEM, VOCABULARY, conv, encoded, graphs, kendall, merit, network

from nasflow_cli.core.graph import Block, Cell, NetworkGraph
from nasflow_cli.core.search_config import PredictorConfig
from nasflow_cli.predict import gcn
from nasflow_cli.predict.encode import EncodedGraph, Encoder
from nasflow_cli.predict.gcn import (
    Ensemble,
    comparable,
    fit,
    inputs,
    left_out,
    num_steps,
    ranking_loss,
    unseen_correlation,
)
from nasflow_cli.predict.ranker import vocabulary_of


def small_fit(seed: int = 0, count: int = 12) -> Ensemble:
    networks = graphs(count, seed=3)
    ensemble = fit(encoded(networks), [1] * count, [merit(graph) for graph in networks], VOCABULARY, SMALL, seed)
    assert ensemble is not None
    return ensemble


@pytest.mark.parametrize("seed", range(2))
def test_it_learns_to_order_graphs_that_it_has_not_seen(seed: int) -> None:
    networks = graphs(160, seed=10 + seed)
    scores = np.array([merit(graph) for graph in networks])
    seen, unseen = encoded(networks[:40]), encoded(networks[40:])

    ensemble = fit(seen, [1] * 40, scores[:40].tolist(), VOCABULARY, PredictorConfig(), seed)

    assert ensemble is not None
    values = ensemble.values(unseen, [1] * 120)
    assert values.shape == (4, 120)
    assert kendall(values.mean(0), scores[40:]) > 0.6


def test_scores_that_say_nothing_teach_nothing() -> None:
    """The anchor of the test above: with the same graphs and shuffled scores there is nothing to find."""
    networks = graphs(160, seed=10)
    scores = np.array([merit(graph) for graph in networks])
    shuffled = np.random.default_rng(0).permutation(scores[:40]).tolist()

    ensemble = fit(encoded(networks[:40]), [1] * 40, shuffled, VOCABULARY, PredictorConfig(), 0)

    assert ensemble is not None
    assert kendall(ensemble.values(encoded(networks[40:]), [1] * 120).mean(0), scores[40:]) < 0.35


def test_cheap_results_teach_about_dear_ones() -> None:
    networks = graphs(160, seed=20)
    scores = np.array([merit(graph) for graph in networks])
    budgets = [1] * 36 + [9] * 4

    ensemble = fit(
        encoded(networks[:40]),
        budgets,
        (scores[:40] + 5 * np.array(budgets)).tolist(),
        VOCABULARY,
        PredictorConfig(),
        0,
    )

    assert ensemble is not None
    assert kendall(ensemble.values(encoded(networks[40:]), [9] * 120).mean(0), scores[40:]) > 0.5


def test_results_at_two_budgets_teach_one_order_although_they_are_never_compared() -> None:
    """The worse half was trained longer. Whether it scored better or worse for that is of no account at all."""
    networks = sorted(graphs(100, seed=20)[:60], key=merit)
    others = graphs(100, seed=20)[60:]
    scores, budgets = np.array([merit(graph) for graph in networks]).round(3), np.array([9] * 30 + [1] * 30)
    config = PredictorConfig(steps=60, ensemble=2)

    ensembles = [
        fit(encoded(networks), budgets.tolist(), (scores + gain * budgets).tolist(), VOCABULARY, config, 0)
        for gain in (4.0, -4.0)
    ]

    for budget in (1, 9):
        values = [each.values(encoded(others), [budget] * 40) for each in ensembles if each is not None]
        np.testing.assert_array_equal(values[0], values[1])
        assert kendall(values[0].mean(0), np.array([merit(graph) for graph in others])) > 0.4


def spied(monkeypatch: pytest.MonkeyPatch, count: int, config: PredictorConfig) -> tuple[list[int], list[list[int]]]:
    """A fit on so many results: how many values each of its steps computed, and the results it compared in each."""
    values, compared = [], []
    forward = gcn.GraphNetworks.forward

    def counted(self: gcn.GraphNetworks, data: gcn.Inputs, which: torch.Tensor, budgets: torch.Tensor) -> torch.Tensor:
        values.append(len(which))
        return forward(self, data, which, budgets)

    def named(scores: NDArray[np.float64], budgets: NDArray[np.int64]) -> torch.Tensor:
        compared.append(scores.astype(int).tolist())
        return comparable(scores, budgets)

    with monkeypatch.context() as patch:
        patch.setattr(gcn.GraphNetworks, "forward", counted)
        patch.setattr(gcn, "comparable", named)
        known = encoded(graphs(count, seed=3))
        assert fit(known, [1] * count, list(map(float, range(count))), VOCABULARY, config, 0) is not None
    return values[:-1], compared  # the last values are what the fit is measured by


@pytest.mark.parametrize("count", [4, 8, 24, 67])
def test_a_fit_on_many_results_takes_as_many_steps_of_as_many_results_as_one_on_few(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    values, compared = spied(monkeypatch, count, SMALL.model_copy(update={"steps": 9, "batch_size": 8}))

    assert len(values) == len(compared) == 9
    assert [len(results) for results in compared] == values
    assert all(min(count, 8) <= size <= 9 for size in values)


@pytest.mark.parametrize("steps", [1, 2, 8, 9, 10, 11])
def test_a_fit_can_have_any_number_of_steps(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    values, _ = spied(monkeypatch, 6, SMALL.model_copy(update={"steps": steps}))

    assert len(values) == steps


def test_a_fit_on_few_results_takes_fewer_steps_than_the_most() -> None:
    steps = {count: num_steps(count, PredictorConfig()) for count in (10, 100, 160, 161, 10_000)}

    assert steps == {10: 90, 100: 180, 160: 240, 161: 240, 10_000: 240}
    assert num_steps(10, PredictorConfig(steps=50)) == num_steps(10_000, PredictorConfig(steps=50)) == 50


def test_the_batches_of_a_fit_cover_all_results_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    _, compared = spied(monkeypatch, 26, SMALL.model_copy(update={"steps": 7, "batch_size": 8}))

    first, second = (list(itertools.chain(*compared[i : i + 3])) for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(26))
    assert first != second != sorted(second)
    assert set(compared[6]) < set(range(26))


@pytest.mark.filterwarnings("error")
def test_a_batch_in_which_nothing_can_be_compared_is_passed_over_in_silence() -> None:
    known, config = encoded(graphs(12, seed=3)), SMALL.model_copy(update={"batch_size": 4})

    ensembles = [fit(known, [1] * 12, [1.0] * 11 + [2.0], VOCABULARY, config, seed) for seed in range(4)]

    assert all(each is not None and np.isfinite(each.values(known, [1] * 12)).all() for each in ensembles)


def test_what_fits_into_one_batch_is_all_in_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    _, compared = spied(monkeypatch, 8, SMALL.model_copy(update={"steps": 3, "batch_size": 8}))

    assert compared == [list(range(8))] * 3


def test_a_fit_in_batches_learns_to_order_graphs_that_it_has_not_seen() -> None:
    networks = graphs(160, seed=10)
    scores = np.array([merit(graph) for graph in networks])
    config = PredictorConfig(steps=90, batch_size=16, ensemble=2)

    ensemble = fit(encoded(networks[:80]), [1] * 80, scores[:80].tolist(), VOCABULARY, config, 0)

    assert ensemble is not None
    assert kendall(ensemble.values(encoded(networks[80:]), [1] * 80).mean(0), scores[80:]) > 0.6


def test_equal_seeds_give_equal_values_and_others_do_not() -> None:
    unseen = encoded(graphs(10, seed=4))

    first, again, other = (small_fit(seed).values(unseen, [1] * 10) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_members_of_an_ensemble_disagree() -> None:
    values = small_fit().values(encoded(graphs(10, seed=4)), [1] * 10)

    assert values.shape == (2, 10)
    assert not np.allclose(values[0], values[1], atol=1e-3)


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    values = small_fit().values(encoded(graphs(5, seed=4)), [1] * 5)
    after = torch.get_rng_state()
    torch.manual_seed(999)

    again = small_fit().values(encoded(graphs(5, seed=4)), [1] * 5)

    assert torch.equal(before, after)
    np.testing.assert_array_equal(values, again)


def test_what_a_graph_is_worth_does_not_depend_on_its_company() -> None:
    ensemble, unseen = small_fit(), encoded(graphs(9, seed=5))

    together = ensemble.values(unseen, [1, 3, 9] * 3)

    alone = [ensemble.values([graph], [budget]) for graph, budget in zip(unseen, [1, 3, 9] * 3, strict=True)]
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), rtol=1e-4, atol=1e-5)


def test_one_graph_at_several_budgets_is_read_once_for_each() -> None:
    ensemble, (first, second) = small_fit(), encoded(graphs(2, seed=5))

    values = ensemble.values([first, second, first], [1, 1, 27])

    expected = np.concatenate([ensemble.values([first], [1]), ensemble.values([first], [27])], axis=1)
    np.testing.assert_allclose(values[:, [0, 2]], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(values[:, 0], values[:, 2], atol=1e-4)


def test_isomorphic_graphs_are_worth_the_same() -> None:
    one = network(conv(0), conv(0, operation="conv1x1"), conv(1, 2), output=(3,))
    other = network(conv(0, operation="conv1x1"), conv(0), conv(2, 1), output=(3,))

    values = small_fit().values(encoded([one, other]), [1, 1])

    np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", ["node_layers", "block_layers"])
def test_a_layer_reads_edges_in_both_directions_and_counts_them(layers: str) -> None:
    layer = getattr(small_fit().networks, layers)[0]
    h = torch.arange(2 * 3 * 8, dtype=torch.float32).reshape(2, 3, 8).sin()

    def states(*edges: tuple[int, int]) -> torch.Tensor:
        level = gcn.Level.of(np.array(edges).T, np.array([3]))
        found: torch.Tensor = layer(level, h).detach()
        return found

    chain, direct, doubled = states((0, 1), (1, 2)), states((0, 1), (0, 2)), states((0, 1), (1, 2), (1, 2))

    assert not torch.allclose(chain[:, 2], direct[:, 2])  # it reads node 1, or node 0
    assert not torch.allclose(chain[:, 0], direct[:, 0])  # it is read by node 2, or is not
    assert not torch.allclose(chain[:, 1], direct[:, 1])
    assert not torch.allclose(chain[:, 2], doubled[:, 2])  # it reads node 1 once, or twice
    assert torch.allclose(chain[:, 0], doubled[:, 0])


def test_networks_with_the_same_cells_share_the_work_within_them(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [network(conv(0), conv(1), output=(2,), width=2**i) for i in range(3, 9)]
    ensemble, read = small_fit(), []
    monkeypatch.setattr(gcn, "inputs", lambda graphs: read.append(inputs(graphs)) or read[-1])

    values = ensemble.values(encoded(networks), [1] * 6)

    assert len(read[0].codes) == 3 + 4 + 1  # the stem, the one cell of all stages, the head
    assert len(set(values[0].tolist())) == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (network(conv(0), conv(0), conv(1), output=(2, 3)), network(conv(0), conv(0), conv(1, 2), output=(3,))),
        (network(conv(0), depth=1), network(conv(0), depth=2)),
        (network(conv(0), width=8), network(conv(0), width=32)),
        (network(conv(0), activation="relu"), network(conv(0), activation="gelu")),
        (network(conv(0)), network(conv(0, operation="conv1x1"))),
        (network(conv(0)), network(conv(0, stride=2))),
        (network(conv(0)), replace(network(conv(0)), head_width=32)),
    ],
    ids=["edges", "depth", "width", "activation", "operation", "stride", "head"],
)
def test_everything_that_makes_a_network_changes_its_value(one: object, other: object) -> None:
    values = small_fit().values(encoded([one, other]), [1, 1])  # type: ignore[list-item]

    assert (np.abs(values[:, 0] - values[:, 1]) > 1e-4).any()


def test_arguments_and_second_inputs_change_the_value_of_a_network() -> None:
    networks = graphs(30, seed=3, space=SPOKEN)
    vocabulary = vocabulary_of(SPOKEN)
    encoder = Encoder(vocabulary)
    seen = [encoder.encode(graph) for graph in networks]
    ensemble = fit(seen, [1] * 30, [merit(graph) for graph in networks], vocabulary, SMALL, 0)
    assert ensemble is not None

    def of(kernel: int, far: int) -> EncodedGraph:
        chain = Block("stages.0", Cell((conv(0, operation="conv", kernel=kernel),), (1,)))
        pair = Block("stages.1", Cell((conv(0), conv(far)), (2, 3), num_inputs=2))
        return encoder.encode(NetworkGraph((STEM, chain, pair), "relu", "default"))

    values = ensemble.values([of(3, 1), of(5, 1), of(3, 0)], [1] * 3)

    assert (np.abs(values[:, 0] - values[:, 1]) > 1e-4).any()
    assert (np.abs(values[:, 0] - values[:, 2]) > 1e-4).any()


def test_results_that_cannot_be_compared_fit_nothing() -> None:
    networks = encoded(graphs(3, seed=6))

    assert fit(networks, [1, 3, 9], [0.1, 0.2, 0.3], VOCABULARY, SMALL, 0) is None
    assert fit(networks, [1, 1, 1], [0.5, 0.5, 0.5], VOCABULARY, SMALL, 0) is None


def test_results_are_compared_at_equal_budget_alone_and_equal_scores_not_at_all() -> None:
    scores, budgets = np.array([0.1, 0.3, 0.2, 0.9, 0.9, 0.0]), np.array([1, 1, 1, 3, 3, 9])

    better = comparable(scores, budgets)

    assert better.shape == (6, 6)
    assert set(better.unique().tolist()) == {0.0, 1.0}
    assert sorted(map(tuple, better.nonzero().tolist())) == [(1, 0), (1, 2), (2, 0)]


def test_the_loss_is_the_mean_of_the_logistic_loss_of_each_pair_summed_over_the_members() -> None:
    values = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 3.0]])
    better = torch.zeros(2, 3, 3)
    better[:, 0, 1] = better[:, 1, 2] = 1

    loss = ranking_loss(values, better)

    one = (math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-1.0))) / 2
    two = (math.log(2) + math.log1p(math.exp(3.0))) / 2
    assert float(loss) == pytest.approx(one + two)


def test_the_right_order_has_the_smallest_loss() -> None:
    better = comparable(np.array([0.1, 0.5, 0.9]), np.array([2, 2, 2]))

    losses = {
        order: float(ranking_loss(torch.tensor([order], dtype=torch.float32), better[None]))
        for order in itertools.permutations((0, 1, 2))
    }

    assert min(losses, key=losses.__getitem__) == (0, 1, 2)
    assert max(losses, key=losses.__getitem__) == (2, 1, 0)


def test_a_member_without_pairs_of_its_own_has_no_loss() -> None:
    better = torch.zeros(2, 2, 2)
    better[1, 0, 1] = 1

    loss = ranking_loss(torch.tensor([[5.0, -5.0], [0.0, 0.0]]), better)

    assert float(loss) == pytest.approx(math.log(2))


def test_every_result_is_left_out_by_one_member_and_all_results_of_a_network_by_the_same() -> None:
    networks = encoded(graphs(9, seed=2))

    without = left_out(networks + networks, 3, seed=0)

    assert without[:9].tolist() == without[9:].tolist()
    assert sorted(np.bincount(without[:9], minlength=3).tolist()) == [3, 3, 3]


def test_a_member_does_not_learn_from_what_it_leaves_out() -> None:
    networks = encoded(graphs(8, seed=4))
    config = SMALL.model_copy(update={"steps": 20})
    without = left_out(networks, config.ensemble, seed=5)
    scores = np.arange(8.0)
    lies = np.where(without == 0, -scores, scores)

    honest, misled = (fit(networks, [1] * 8, list(each), VOCABULARY, config, 5) for each in (scores, lies))

    assert honest is not None
    assert misled is not None
    before, after = (each.values(networks, [1] * 8) for each in (honest, misled))
    np.testing.assert_allclose(before[0], after[0], rtol=1e-4, atol=1e-5)
    assert np.abs(before[1] - after[1]).max() > 1e-3


def test_the_correlation_is_measured_on_what_a_member_has_left_out() -> None:
    """The first member is right about its own two and wrong about the rest; the second the other way round."""
    without, scores = np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 3.0, 4.0])
    right_about_unseen = np.array([[1.0, 2.0, 9.0, 8.0], [9.0, 8.0, 1.0, 2.0]])

    assert unseen_correlation(right_about_unseen, scores, np.ones(4, dtype=np.int64), without, 2) == 1.0
    assert unseen_correlation(right_about_unseen[::-1], scores, np.ones(4, dtype=np.int64), without, 2) == -1.0


def test_pairs_of_different_budgets_or_equal_scores_are_not_measured() -> None:
    without = np.zeros(6, dtype=np.int64)
    values = np.array([[11.0, 12.0, 13.0, 1.0, 2.0, 2.5]])
    scores, budgets = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 12.0]), np.array([1, 1, 1, 9, 9, 9])

    assert unseen_correlation(values, scores, budgets, without, 5) == 1.0
    assert unseen_correlation(values, scores, budgets, without, 6) is None
