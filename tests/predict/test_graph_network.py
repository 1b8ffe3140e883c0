"""The graph network: what it learns, what it reads, and that nothing but its seed decides."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scored_graphs import SMALL, SPOKEN, STEM, VOCABULARY, conv, encoded, graphs, kendall, merit, network

from nasflow_cli.core.config import PredictorConfig
from nasflow_cli.core.graph import Block, Cell, NetworkGraph
from nasflow_cli.predict.encode import EncodedGraph, Encoder
from nasflow_cli.predict.gcn import Ensemble, comparable_pairs, fit, inputs, ranking_loss
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


def test_a_layer_reads_edges_in_both_directions() -> None:
    (whole,) = encoded([network(conv(0), conv(1), output=(2,))])
    layer = small_fit().networks.layers[0]
    h = torch.arange(2 * 3 * 8, dtype=torch.float32).reshape(2, 3, 8).sin()

    def states(*edges: tuple[int, int]) -> torch.Tensor:
        part = EncodedGraph(codes=whole.codes[:3], scalars=whole.scalars[:3], edges=np.array(edges).T)
        found: torch.Tensor = layer(inputs([part]), h).detach()
        return found

    chain, direct = states((0, 1), (1, 2)), states((0, 1), (0, 2))

    assert not torch.allclose(chain[:, 2], direct[:, 2])  # it reads node 1, or node 0
    assert not torch.allclose(chain[:, 0], direct[:, 0])  # it is read by node 2, or is not
    assert not torch.allclose(chain[:, 1], direct[:, 1])


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


def test_pairs_are_of_equal_budget_and_weigh_more_where_the_better_one_is_good() -> None:
    scores, budgets = np.array([0.1, 0.3, 0.2, 0.9, 0.9]), np.array([1, 1, 1, 3, 3])

    better, worse, weights = comparable_pairs(scores, budgets)

    found = dict(zip(zip(better.tolist(), worse.tolist(), strict=True), weights.tolist(), strict=True))
    assert found == pytest.approx({(1, 0): 1.0, (1, 2): 1.0, (2, 0): (2 / 3) ** 2})


def test_the_loss_is_the_weighted_mean_of_the_logistic_loss_of_each_pair() -> None:
    values = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 3.0]])
    better, worse, weights = torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([3.0, 1.0])

    loss = ranking_loss(values, better, worse, weights)

    one = (3 * math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-1.0))) / 4
    two = (3 * math.log(2) + math.log1p(math.exp(3.0))) / 4
    assert float(loss) == pytest.approx(one + two)


def test_the_right_order_has_the_smallest_loss() -> None:
    better, worse, weights = comparable_pairs(np.array([0.1, 0.5, 0.9]), np.array([2, 2, 2]))

    losses = {
        order: float(ranking_loss(torch.tensor([order], dtype=torch.float32), better, worse, weights))
        for order in itertools.permutations((0, 1, 2))
    }

    assert min(losses, key=losses.__getitem__) == (0, 1, 2)
    assert max(losses, key=losses.__getitem__) == (2, 1, 0)
