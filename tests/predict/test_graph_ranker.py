"""The predictor: what it reads, what it learns, and when it may choose."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

import nasflow_cli
import nasflow_cli.nets
from nasflow_cli.core.config import PredictorConfig
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.core.trial import History, Proposal, Result, Trial
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.optim.proposals import Candidate
from nasflow_cli.predict.encode import Encoder, batch
from nasflow_cli.predict.gcn import comparable_pairs, fit, ranking_loss
from nasflow_cli.predict.ranker import GraphRanker, measured_correlation, vocabulary_of

CONFIG = PredictorConfig(epochs=40, ensemble=2, width=16, layers=2, min_results=6, refit_every=3, min_pairs=3)
SPACE = {
    "stem": {"width": 8},
    "cells": {"body": {"nodes": 3, "operations": ["conv3x3", "conv1x1", "avg_pool3x3", "skip"]}},
    "stages": [{"cell": "body", "width": [8, 12, 16]}],
    "activation": {"choices": ["relu", "gelu"]},
}


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace(SpaceConfig.model_validate_json(json.dumps(SPACE)), operation_facts())


def worth(graph: NetworkGraph) -> float:
    """A score that only the graph decides: 3x3 convolutions are good, and wide is good."""
    nodes = graph.blocks[-1].cell.nodes
    return sum(node.operation == "conv3x3" for node in nodes) + graph.blocks[-1].width / 16


def members(space: SearchSpace, count: int, seed: int = 0) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    rng = np.random.default_rng(seed)
    while len(found) < count:
        architecture = space.sample(rng)
        graph = space.graph(architecture)
        if graph.is_connected:
            found[graph.key()] = Candidate(architecture=architecture, graph=graph, key=graph.key(), source="random")
    return list(found.values())


def history_of(candidates: Sequence[Candidate], predicted: Sequence[float | None] | None = None) -> History:
    """A history in which each candidate was trained for 2 epochs."""
    history = History()
    for number, candidate in enumerate(candidates):
        said = predicted[number] if predicted else None
        history.asked(
            Trial(
                number=number,
                architecture=candidate.architecture,
                key=candidate.key,
                budget=2,
                seed=0,
                phase="structure",
                turn=0,
                bracket=0,
                rung=0,
                slot=(0, 0, number),
                parent=None,
                proposal=Proposal(source="random", predicted=said),
            )
        )
        history.told(Result(trial=number, score=worth(candidate.graph)))
    return history


def encoded(space: SearchSpace, candidates: Sequence[Candidate]) -> list[object]:
    encoder = Encoder(vocabulary_of(space))
    return [encoder.encode(candidate.graph) for candidate in candidates]


def test_a_graph_has_a_join_for_every_block_and_one_before_the_classifier(space: SearchSpace) -> None:
    cell = Cell((Node("conv3x3", (0,), "relu", "default"), Node("conv1x1", (0, 1), "relu", "default")), (1, 2))
    graph = NetworkGraph((Block("a", cell, 8), Block("b", cell, 16, 1, 2)), "relu", "default")

    one = Encoder(vocabulary_of(space)).encode(graph)

    assert len(one.codes) == 2 * (1 + 2) + 1
    assert one.edges.T.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3], [3, 4], [3, 5], [4, 5], [4, 6], [5, 6]]
    assert one.scalars[:, 0].tolist() == [3, 3, 3, 4, 4, 4, 4]


def test_a_batch_is_its_graphs_side_by_side(space: SearchSpace) -> None:
    graphs = encoded(space, members(space, 3))

    together = batch(graphs)  # type: ignore[arg-type]

    starts = np.concatenate([[0], np.cumsum(together.num_nodes)])
    edge_starts = np.concatenate([[0], np.cumsum(together.num_edges)])
    for i, graph in enumerate(graphs):
        assert (together.codes[starts[i] : starts[i + 1]] == graph.codes).all()  # type: ignore[attr-defined]
        edges = together.edges[:, edge_starts[i] : edge_starts[i + 1]] - starts[i]
        assert (edges == graph.edges).all()  # type: ignore[attr-defined]


def test_pairs_are_compared_at_equal_budget_only_and_the_best_weigh_most() -> None:
    better, worse, weights = comparable_pairs(np.array([0.1, 0.3, 0.2, 0.9]), np.array([2, 2, 2, 6]))

    assert sorted(zip(better.tolist(), worse.tolist(), strict=True)) == [(1, 0), (1, 2), (2, 0)]
    weight = dict(zip(zip(better.tolist(), worse.tolist(), strict=True), weights.tolist(), strict=True))
    assert weight[1, 0] == pytest.approx(1.0)
    assert weight[2, 0] == pytest.approx((2 / 3) ** 2)


def test_the_loss_is_the_logistic_one_of_ranknet() -> None:
    values = torch.tensor([[0.0, 1.0]])

    right = ranking_loss(values, torch.tensor([1]), torch.tensor([0]), torch.tensor([1.0]))
    wrong = ranking_loss(values, torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0]))

    assert right.item() == pytest.approx(np.log1p(np.exp(-1.0)))
    assert wrong.item() == pytest.approx(np.log1p(np.exp(1.0)))


def test_it_learns_to_order_networks_that_it_has_not_seen(space: SearchSpace) -> None:
    known, unseen = members(space, 90)[:40], members(space, 90)[40:]
    graphs = encoded(space, known)

    ensemble = fit(graphs, [2] * 40, [worth(c.graph) for c in known], vocabulary_of(space), CONFIG, seed=0)  # type: ignore[arg-type]

    assert ensemble is not None
    values = ensemble.values(encoded(space, unseen), [2] * 50).mean(0)  # type: ignore[arg-type]
    assert kendalltau(values, [worth(c.graph) for c in unseen]).statistic > 0.6


def test_a_fit_depends_on_its_seed_alone_and_leaves_the_global_generator_alone(space: SearchSpace) -> None:
    known = members(space, 12)
    graphs, scores = encoded(space, known), [worth(c.graph) for c in known]
    state = torch.get_rng_state()

    fits = [fit(graphs, [2] * 12, scores, vocabulary_of(space), CONFIG, seed=s) for s in (1, 1, 2)]  # type: ignore[arg-type]

    assert torch.equal(torch.get_rng_state(), state)
    one, same, other = (ensemble.values(graphs, [2] * 12) for ensemble in fits if ensemble)  # type: ignore[arg-type]
    assert (one == same).all()
    assert not np.allclose(one, other)


def test_values_depend_on_edges_in_both_directions_and_on_the_budget(space: SearchSpace) -> None:
    known = members(space, 12)
    graphs = encoded(space, known)
    ensemble = fit(graphs, [2] * 12, [worth(c.graph) for c in known], vocabulary_of(space), CONFIG, seed=0)  # type: ignore[arg-type]
    assert ensemble is not None
    first = Node("conv3x3", (0,), "relu", "default")
    chain = Cell((first, Node("conv1x1", (1,), "relu", "default")), (2,))
    swapped = Cell((Node("conv1x1", (0,), "relu", "default"), Node("conv3x3", (1,), "relu", "default")), (2,))
    encoder = Encoder(vocabulary_of(space))
    both = [encoder.encode(NetworkGraph((Block("a", cell, 8),), "relu", "default")) for cell in (chain, swapped)]

    values = ensemble.values([both[0], both[1], both[0]], [2, 2, 18])

    assert abs(values[0, 0] - values[0, 1]) > 1e-4
    assert abs(values[0, 0] - values[0, 2]) > 1e-4


def test_results_that_cannot_be_compared_fit_nothing(space: SearchSpace) -> None:
    graphs = encoded(space, members(space, 3))

    assert fit(graphs, [1, 2, 3], [0.1, 0.2, 0.3], vocabulary_of(space), CONFIG, seed=0) is None  # type: ignore[arg-type]
    assert fit(graphs, [2, 2, 2], [0.5, 0.5, 0.5], vocabulary_of(space), CONFIG, seed=0) is None  # type: ignore[arg-type]


def test_it_is_cold_while_too_few_results_are_known(space: SearchSpace) -> None:
    ranker = GraphRanker(CONFIG, 0, space)

    judgement = ranker.judge(members(space, 4, 9), 2, history_of(members(space, 5)), 5)

    assert (judgement.chosen, judgement.why, judgement.fitted_on) == (None, "cold", 0)


def test_it_says_what_it_expects_but_does_not_choose_before_it_was_measured(space: SearchSpace) -> None:
    ranker = GraphRanker(CONFIG, 0, space)

    judgement = ranker.judge(members(space, 4, 9), 2, history_of(members(space, 8)), 8)

    assert (judgement.chosen, judgement.why, judgement.correlation) == (None, "untrusted", None)
    assert judgement.predicted is not None
    assert len(judgement.predicted) == 4


def with_expectations(space: SearchSpace, sign: float) -> History:
    known = members(space, 9)
    return history_of(known, [sign * worth(candidate.graph) for candidate in known])


def test_it_chooses_once_its_expectations_have_come_true(space: SearchSpace) -> None:
    judgements = [
        GraphRanker(CONFIG, seed, space).judge(members(space, 6, 9), 2, with_expectations(space, 1.0), 9)
        for seed in range(4)
    ]

    assert {judgement.correlation for judgement in judgements} == {1.0}
    assert "predictor" in {judgement.why for judgement in judgements}
    assert all((judgement.chosen is not None) == (judgement.why == "predictor") for judgement in judgements)


def test_it_does_not_choose_while_its_expectations_are_wrong(space: SearchSpace) -> None:
    judgement = GraphRanker(CONFIG, 0, space).judge(members(space, 6, 9), 2, with_expectations(space, -1.0), 9)

    assert (judgement.chosen, judgement.why, judgement.correlation) == (None, "untrusted", -1.0)


def test_a_share_of_the_slots_bypasses_it(space: SearchSpace) -> None:
    ranker = GraphRanker(CONFIG.model_copy(update={"bypass": 0.5}), 0, space)
    history, pool = with_expectations(space, 1.0), members(space, 6, 9)

    whys = [ranker.judge(pool, 2, history, number).why for number in range(9, 49)]

    assert 10 <= whys.count("bypass") <= 30
    assert set(whys) == {"bypass", "predictor"}


def test_its_judgement_is_the_same_after_a_restart(space: SearchSpace) -> None:
    history, pool = with_expectations(space, 1.0), members(space, 6, 9)
    used = GraphRanker(CONFIG, 0, space)
    early = history_of(members(space, 6))
    used.judge(pool, 2, early, 6)

    assert used.judge(pool, 2, history, 9) == GraphRanker(CONFIG, 0, space).judge(pool, 2, history, 9)


def test_only_what_was_expected_before_counts_for_the_correlation(space: SearchSpace) -> None:
    known = members(space, 9)
    said: list[float | None] = [None] * 5 + [worth(candidate.graph) for candidate in known[5:]]

    assert measured_correlation(history_of(known), CONFIG) is None
    assert measured_correlation(history_of(known, said), CONFIG) == 1.0


def test_only_the_latest_expectations_count_for_the_correlation(space: SearchSpace) -> None:
    known = members(space, 12)
    said = [-worth(c.graph) for c in known[:6]] + [worth(c.graph) for c in known[6:]]

    windowed = CONFIG.model_copy(update={"window": 6})

    assert measured_correlation(history_of(known, said), windowed) == 1.0


def test_dgl_is_imported_by_one_module_only() -> None:
    package = Path(nasflow_cli.__file__).parent
    importers = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "dgl" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dgl")
    }

    assert importers == {"_dgl.py"}


def test_dgl_is_imported_where_there_is_no_home(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path / "nowhere")}
    environment.pop("DGLBACKEND", None)  # set by an import in this process; the module has to set it by itself
    program = "from nasflow_cli.predict._dgl import dgl; print(dgl.__version__)"

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "nowhere").exists()
