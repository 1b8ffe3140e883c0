"""The graph convolutional predictor (GNAS, section 3.4), on DGL: an ensemble that learns to order, not to regress.

Two levels, as a network has them: layers within each cell, whose outcome stands on the network's blocks, and layers
among the blocks. Messages run along the edges and against them and are summed, so that it counts how many there are
(Xu et al. 2019); each layer has a residual and a layer norm. The budget is an input of the readout, so that results of
every rung teach it. Trained on the CPU with a pairwise logistic loss over results of equal budget (RankNet, Burges et
al. 2005), a batch of them at each step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasflow_cli.core.search_config import PredictorConfig
from nasflow_cli.predict._dgl import dgl
from nasflow_cli.predict.encode import BLOCK_SCALARS, EncodedGraph, Vocabulary, batch

BLOCK_LAYERS = 2
"""Layers among the blocks of a network: what a block is worth depends on its neighbours more than on those far off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Graphs side by side on DGL, with their edges as they are and turned round, and the number of nodes of each."""

    forward: dgl.DGLGraph
    backward: dgl.DGLGraph
    sizes: Tensor

    @classmethod
    def of(cls, edges: NDArray[np.int64], sizes: NDArray[np.int64]) -> Level:
        """From edges (2, edges) and the number of nodes of each graph."""
        source, target = (torch.from_numpy(row) for row in edges)
        count = int(sizes.sum())
        return cls(
            forward=dgl.graph((source, target), num_nodes=count),
            backward=dgl.graph((target, source), num_nodes=count),
            sizes=torch.from_numpy(sizes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A batch of different networks (see `encode.GraphBatch`)."""

    nodes: Level
    codes: Tensor
    node_scalars: Tensor
    blocks: Level
    cells: Tensor
    block_scalars: Tensor


def inputs(graphs: Sequence[EncodedGraph]) -> Inputs:
    """Batch networks for the ensemble."""
    together = batch(graphs)
    return Inputs(
        nodes=Level.of(together.node_edges, together.num_nodes),
        codes=torch.from_numpy(together.codes),
        node_scalars=torch.from_numpy(together.node_scalars),
        blocks=Level.of(together.block_edges, together.num_blocks),
        cells=torch.from_numpy(together.cells),
        block_scalars=torch.from_numpy(together.block_scalars),
    )


class Members(nn.Module):
    """A linear layer of each member of the ensemble: (members, n, in) to (members, n, out)."""

    def __init__(self, num_members: int, num_in: int, num_out: int) -> None:
        super().__init__()
        bound = num_in**-0.5
        self.weight = nn.Parameter(torch.empty(num_members, num_in, num_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(num_members, 1, num_out))

    def forward(self, x: Tensor) -> Tensor:
        """Apply each member's own weights."""
        return torch.baddbmm(self.bias, x, self.weight)


class Layer(nn.Module):
    """h + relu(W h + U sum over predecessors + V sum over successors), normalised (Kipf and Welling 2017)."""

    def __init__(self, num_members: int, width: int) -> None:
        super().__init__()
        self.mix = Members(num_members, 3 * width, width)
        self.gain = nn.Parameter(torch.ones(num_members, 1, width))
        self.shift = nn.Parameter(torch.zeros(num_members, 1, width))

    def forward(self, level: Level, h: Tensor) -> Tensor:
        """Node states (members, nodes, width) to node states."""
        # One sparse product serves all members: they read the same graphs.
        flat = _flat(h)
        sums = [_by_member(dgl.ops.copy_u_sum(graph, flat), len(h)) for graph in (level.forward, level.backward)]
        mixed = h + torch.relu(self.mix(torch.cat([h, *sums], dim=2)))
        return nn.functional.layer_norm(mixed, mixed.shape[-1:]) * self.gain + self.shift


def _flat(h: Tensor) -> Tensor:
    """(members, n, width) to (n, members * width)."""
    return h.transpose(0, 1).reshape(h.shape[1], -1)


def _by_member(flat: Tensor, num_members: int) -> Tensor:
    """(n, members * width) to (members, n, width)."""
    return flat.view(len(flat), num_members, -1).transpose(0, 1)


def _readout(level: Level, h: Tensor) -> Tensor:
    """The sum and the last of each graph's node states: (members, graphs, 2 * width). A mean would lose how many."""
    flat = _flat(h)
    total = dgl.readout.segment.segment_reduce(level.sizes, flat, reducer="sum")
    last = flat[torch.cumsum(level.sizes, 0) - 1]
    return torch.cat([_by_member(each, len(h)) for each in (total, last)], dim=2)


class GraphNetworks(nn.Module):
    """The members of an ensemble, side by side. Only the order of values at equal budget means anything."""

    def __init__(self, vocabulary: Vocabulary, config: PredictorConfig) -> None:
        super().__init__()
        members, width = config.ensemble, config.width
        self.words = nn.ModuleList(nn.Embedding(size, members * width) for size in vocabulary.sizes)
        self.node_scalars = nn.Linear(vocabulary.num_scalars, members * width)
        self.node_layers = nn.ModuleList(Layer(members, width) for _ in range(config.layers))
        self.cell = Members(members, 2 * width, width)
        self.block_scalars = nn.Linear(BLOCK_SCALARS, members * width)
        self.block_layers = nn.ModuleList(Layer(members, width) for _ in range(BLOCK_LAYERS))
        self.hidden = Members(members, 2 * width + 1, width)
        self.value = Members(members, width, 1)
        self._members = members

    def forward(self, data: Inputs, which: Tensor, budgets: Tensor) -> Tensor:
        """Values (members, n) of the n pairs of a network (its number in `data`) and a budget (as log2)."""
        flat: Tensor = self.node_scalars(data.node_scalars)
        for column, words in enumerate(self.words):
            flat = flat + words(data.codes[:, column])
        h = _by_member(flat, self._members)
        for layer in self.node_layers:
            h = layer(data.nodes, h)
        cells = self.cell(_readout(data.nodes, h))
        h = cells[:, data.cells] + _by_member(self.block_scalars(data.block_scalars), self._members)
        for layer in self.block_layers:
            h = layer(data.blocks, h)
        budget = budgets.view(1, -1, 1).expand(self._members, -1, 1)
        known = torch.cat([_readout(data.blocks, h)[:, which], budget], dim=2)
        values: Tensor = self.value(torch.relu(self.hidden(known))).squeeze(2)
        return values


MEASURED_RESULTS = 400
"""Latest results by which the correlation is measured."""


def ranking_loss(values: Tensor, better: Tensor) -> Tensor:
    """Each member's mean over its pairs of log(1 + exp(worse - better)), summed over the members (members, n).

    `better` (members, n, n) is 1 where the row's score is better than the column's, both can be compared, and the
    member may learn from both, else 0.
    """
    losses = nn.functional.softplus(values[:, None, :] - values[:, :, None])
    return ((losses * better).sum((1, 2)) / better.sum((1, 2)).clamp(min=1.0)).sum()


def comparable(scores: NDArray[np.float64], budgets: NDArray[np.int64]) -> Tensor:
    """Which results (rows) are better than which (columns) at the same budget: (n, n), 1 or 0."""
    better = (scores[:, None] > scores[None, :]) & (budgets[:, None] == budgets[None, :])
    return torch.from_numpy(better.astype(np.float32))


def left_out(graphs: Sequence[EncodedGraph], num_members: int, seed: int) -> NDArray[np.int64]:
    """The member that does not learn from each result: all results of a network are left out by the same one."""
    distinct = list({id(graph): None for graph in graphs})
    parts = np.random.default_rng(seed).permutation(len(distinct)) % num_members
    member = dict(zip(distinct, parts, strict=True))
    return np.array([member[id(graph)] for graph in graphs], dtype=np.int64)


class Ensemble:
    """Networks fitted from different starts, each on another part of the results; they disagree where all are unsure.

    `correlation` is Kendall's tau-a over pairs of results at the same budget that one member has not learned from,
    as that member orders them; None while there are fewer such pairs than asked for.
    """

    def __init__(self, networks: GraphNetworks, correlation: float | None) -> None:
        self.networks = networks
        self.correlation = correlation

    def values(self, graphs: Sequence[EncodedGraph], budgets: Sequence[int]) -> NDArray[np.float64]:
        """Values (members, n) of graphs, each at its budget (epochs)."""
        return _values(self.networks, graphs, budgets)


@torch.no_grad()
def _values(networks: GraphNetworks, graphs: Sequence[EncodedGraph], budgets: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray(networks(*_pairs(graphs, budgets)).numpy(), dtype=np.float64)


def _pairs(graphs: Sequence[EncodedGraph], budgets: Sequence[int]) -> tuple[Inputs, Tensor, Tensor]:
    """Distinct graphs, and for each pair the number of its graph and the log2 of its budget."""
    distinct = {id(graph): graph for graph in graphs}
    number = {name: i for i, name in enumerate(distinct)}
    which = torch.tensor([number[id(graph)] for graph in graphs])
    return inputs(list(distinct.values())), which, torch.tensor(budgets, dtype=torch.float32).log2()


def fit(
    graphs: Sequence[EncodedGraph],
    budgets: Sequence[int],
    scores: Sequence[float],
    vocabulary: Vocabulary,
    config: PredictorConfig,
    seed: int,
) -> Ensemble | None:
    """Fit an ensemble, from `seed` alone. None when no two results can be compared.

    Takes at most `config.steps` steps over batches of results, so that what a fit costs hardly grows with their number.
    """
    all_scores, all_budgets = np.array(scores, dtype=np.float64), np.array(budgets, dtype=np.int64)
    if len(set(zip(all_budgets, all_scores, strict=True))) == len(set(all_budgets)):
        return None  # all scores at each budget are equal
    without = left_out(graphs, config.ensemble, seed)
    learns = torch.from_numpy((without[None, :] != np.arange(config.ensemble)[:, None]).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = GraphNetworks(vocabulary, config)
    optimizer = torch.optim.AdamW(networks.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    steps = num_steps(len(graphs), config)
    # The schedule divides by the length of its rise, which would be 0 with 9 steps.
    total_steps = max(steps, 10) + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps, pct_start=0.1)
    for chosen, batch_data in itertools.islice(_batches(graphs, budgets, config, seed), steps):
        mine = learns[:, torch.from_numpy(chosen)]
        better = comparable(all_scores[chosen], all_budgets[chosen]) * mine[:, :, None] * mine[:, None, :]
        optimizer.zero_grad(set_to_none=True)
        if better.any():
            ranking_loss(networks(*batch_data), better).backward()  # type: ignore[no-untyped-call]
        optimizer.step()  # changes nothing where there are no gradients
        schedule.step()
    latest = slice(-MEASURED_RESULTS, None)
    values = _values(networks, graphs[latest], budgets[latest])
    scores_then, budgets_then = all_scores[latest], all_budgets[latest]
    return Ensemble(networks, unseen_correlation(values, scores_then, budgets_then, without[latest], config.min_pairs))


def unseen_correlation(
    values: NDArray[np.float64],
    scores: NDArray[np.float64],
    budgets: NDArray[np.int64],
    without: NDArray[np.int64],
    min_pairs: int,
) -> float | None:
    """Kendall's tau-a over pairs that one member has not learned from, as it orders them. `values` are (members, n).

    Pairs of equal budget and different scores count; None while there are fewer than `min_pairs`.
    """
    agreements: list[NDArray[np.float64]] = []
    for member, of_all in enumerate(values):
        unseen = without == member
        said, found, at = of_all[unseen], scores[unseen], budgets[unseen]
        pairs = np.triu((at[:, None] == at[None, :]) & (found[:, None] != found[None, :]), 1)
        agreement = np.sign(said[:, None] - said[None, :]) * np.sign(found[:, None] - found[None, :])
        agreements.append(agreement[pairs])
    together = np.concatenate(agreements)
    return float(together.mean()) if len(together) >= min_pairs else None


def num_steps(num_results: int, config: PredictorConfig) -> int:
    """Steps of a fit on so many results: few are learned sooner."""
    return min(config.steps, 80 + num_results)


def _batches(
    graphs: Sequence[EncodedGraph], budgets: Sequence[int], config: PredictorConfig, seed: int
) -> Iterator[tuple[NDArray[np.int64], tuple[Inputs, Tensor, Tensor]]]:
    """The results of each step, by their positions and as the networks read them: random parts of all, without end."""
    num_parts = max(1, round(len(graphs) / config.batch_size))
    rng = np.random.default_rng(seed)
    everything = _pairs(graphs, budgets) if num_parts == 1 else None
    waiting: list[NDArray[np.int64]] = []
    while True:
        if everything is not None:
            yield np.arange(len(graphs)), everything
            continue
        if not waiting:
            waiting = np.array_split(rng.permutation(len(graphs)), num_parts)
        chosen = waiting.pop()
        yield chosen, _pairs([graphs[i] for i in chosen], [budgets[i] for i in chosen])
