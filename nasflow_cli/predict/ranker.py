"""The surrogate between search and training: ranks a pool by the graph network, while its word can be trusted.

Each network of the ensemble leaves out a part of the results. How well it orders those decides whether the ensemble may
choose; were it measured on what it has chosen, it would be measured on the best alone. A fixed share of slots never
goes through it. What it expects of a trial is journalled before the trial runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasflow_cli.core.decode import ADAPTER
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.search_config import PredictorConfig
from nasflow_cli.core.seeds import Purpose, derived_seed, generator
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.trial import History, Trial
from nasflow_cli.optim.proposals import Candidate, Outlook
from nasflow_cli.predict.encode import EncodedGraph, Encoder, Vocabulary
from nasflow_cli.predict.gcn import Ensemble, fit

STUCK = 3
"""How many times as often it is bypassed while nothing better is found: it may be sure of the wrong region."""

LINE_RESULTS = 200
"""Results by which values are put on the scale of the scores."""


class GraphRanker:
    """Learns from all results of all budgets, in the order in which they came."""

    def __init__(self, config: PredictorConfig, seed: int, space: SearchSpace) -> None:
        self.config = config
        self.seed = seed
        self.space = space
        self.vocabulary = vocabulary_of(space)
        self._encoder = Encoder(self.vocabulary)
        self._encoded: dict[str, EncodedGraph] = {}
        self._fitted: tuple[int, Ensemble | None] = (0, None)
        self._lines: dict[int, tuple[float, float, float]] = {}

    def outlook(self, history: History, number: int) -> Outlook:
        """Say whether it will make the choice for trial `number`; see `optim.proposals.Ranker`."""
        fitted_on = self._due(len(history.searched()))
        ensemble = self._ensemble(history, fitted_on)
        if ensemble is None:
            return Outlook(why="cold")
        correlation = ensemble.correlation
        share = self.config.bypass * (STUCK if history.since_best >= self.config.patience else 1)
        bypassed = bool(generator(self.seed, number, Purpose.CHOICE).random() < share)
        trusted = correlation is not None and correlation >= self.config.min_correlation
        why = "untrusted" if not trusted else "bypass" if bypassed else "predictor"
        return Outlook(why=why, fitted_on=fitted_on, correlation=correlation, chooses=why == "predictor")

    def merits(self, pool: Sequence[Candidate], budget: int, history: History, number: int) -> NDArray[np.float64]:
        """What decides between candidates; see `optim.proposals.Ranker`.

        Thompson's choice: one member of the ensemble, drawn for the trial, decides alone. Where the members agree, they
        are sure; where they do not, each gets its way now and then.
        """
        ensemble = self._ensemble(history, self._due(len(history.searched())))
        if ensemble is None:
            return np.zeros(len(pool))
        values = ensemble.values([self._encoder.encode(shown(c.graph)) for c in pool], [budget] * len(pool))
        rng = generator(self.seed, number, Purpose.CHOICE)
        rng.random()  # what decides on a bypass
        merits: NDArray[np.float64] = values[int(rng.integers(len(values)))]
        return merits

    def predicted(self, candidate: Candidate, budget: int, history: History) -> float | None:
        """The ensemble's mean, on the scale of the scores; see `optim.proposals.Ranker`."""
        ensemble = self._ensemble(history, self._due(len(history.searched())))
        if ensemble is None:
            return None
        value = float(ensemble.values([self._encoder.encode(shown(candidate.graph))], [budget]).mean())
        return self._in_score_units(value, history, budget)

    def _due(self, num_results: int) -> int:
        """How many results it is fitted on when so many are known: a function of the number alone.

        The steps grow with the number, so that all fits of a search cost a multiple of its last one.
        """
        due = 0
        following = self.config.min_results
        while following <= num_results:
            due = following
            following += max(self.config.refit_every, due // 10)
        return due

    def _ensemble(self, history: History, fitted_on: int) -> Ensemble | None:
        if fitted_on and self._fitted[0] != fitted_on:
            known = history.searched()[:fitted_on]
            ensemble = fit(
                [self._encode(trial) for trial, _ in known],
                [trial.budget for trial, _ in known],
                [float(result.score or 0.0) for _, result in known],
                self.vocabulary,
                self.config,
                derived_seed(self.seed, fitted_on, Purpose.PREDICTOR),
            )
            self._fitted = (fitted_on, ensemble)
            self._lines = {}
        return self._fitted[1] if fitted_on else None

    def _encode(self, trial: Trial) -> EncodedGraph:
        """A trained network as an input; one object for all trials of it, which the fits tell networks apart by."""
        if trial.key not in self._encoded:
            self._encoded[trial.key] = self._encoder.encode(shown(self.space.graph(trial.architecture)))
        return self._encoded[trial.key]

    def _in_score_units(self, value: float, history: History, budget: int) -> float:
        """A value on the scale of the scores at `budget`, by a line through the results that were learned from.

        A ranking loss leaves each fit its own scale; without this, expectations of different fits could not be
        compared with each other.
        """
        if budget not in self._lines:
            self._lines[budget] = self._line(history, budget)
        slope, centre, height = self._lines[budget]
        return height + slope * (value - centre)

    def _line(self, history: History, budget: int) -> tuple[float, float, float]:
        """Slope, and the means of values and scores, of the latest results at a budget."""
        fitted_on, ensemble = self._fitted
        learned = history.searched()[:fitted_on]
        known = [(trial, result) for trial, result in learned if trial.budget == budget]
        known = (known if len(known) >= 3 else list(learned))[-LINE_RESULTS:]
        scores = np.array([result.score for _, result in known], dtype=np.float64)
        if ensemble is None:
            return 0.0, 0.0, float(scores.mean())
        fitted = ensemble.values([self._encode(t) for t, _ in known], [t.budget for t, _ in known]).mean(0)
        spread = float(fitted.std())
        slope = float(np.mean((fitted - fitted.mean()) * (scores - scores.mean())) / spread**2) if spread > 0 else 0.0
        return max(slope, 0.0), float(fitted.mean()), float(scores.mean())


def shown(graph: NetworkGraph) -> NetworkGraph:
    """What the predictor is shown of a network: what it computes, where it was kept with more than that."""
    return graph.simplified or graph


def vocabulary_of(space: SearchSpace) -> Vocabulary:
    """Every word that a node of the space can carry, sorted."""
    config = space.config
    operations = {config.stem.operation, ADAPTER, *(stage.transition for stage in config.stages if stage.transition)}
    arguments: set[str] = set()
    for cell in config.cells.values():
        operations.update(str(choice) for choice in cell.operations.choices.choices)
        operations.update([cell.project.operation] if cell.project is not None else [])
        for operation, domains in cell.operations.arguments.items():
            for name, domain in domains.items():
                words = [choice for choice in domain.choices if isinstance(choice, str)]
                arguments.update(f"{operation}.{name}={word}" for word in words)
                arguments.update([] if words else [f"{operation}.{name}"])
    return Vocabulary(
        operations=tuple(sorted(operations)),
        activations=tuple(sorted(str(choice) for choice in config.activation.choices.choices)),
        initialisations=tuple(sorted(str(choice) for choice in config.initialisation.choices.choices)),
        arguments=tuple(sorted(arguments)),
    )
