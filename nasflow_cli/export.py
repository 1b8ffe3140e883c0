"""The winner of a run becomes files that need no nasflow: source, weights, a card. Nothing is handed over unchecked.

Before the files take their place a fresh process without nasflow computes with them on every validation and test
example; an output that differs from the trained network's, or an accuracy that is not the journal's score, ends the
export and leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from nasflow_cli import __version__
from nasflow_cli import execute as _execute
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.counted import counted
from nasflow_cli.core.errors import ConfigError, NasflowError, RunDirectoryError
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.trial import Standing, Trial, mean_of, spread_of
from nasflow_cli.nets.builder import Network, build
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.fresh_process import compare, differs, in_fresh_process
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.nets.source import InputFacts, network_source, state_names
from nasflow_cli.store.export_directory import ExportDirectory, check_place, staged
from nasflow_cli.store.files import write_whole
from nasflow_cli.store.final_results import FinalTraining, WeightsOf
from nasflow_cli.store.journal import history_of, no_score, read_events
from nasflow_cli.store.links import refuse_links
from nasflow_cli.store.model_card import SCHEMA_VERSION, readable
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train import child as _child
from nasflow_cli.train import table as _table
from nasflow_cli.train.data import Splits
from nasflow_cli.train.feed import Feed, Normalise
from nasflow_cli.train.run_data import experiment_of
from nasflow_cli.train.winner import final_weights, searched_weights, trained_again
from nasflow_cli.train.worker_data import ScoredData, use_scored

REGISTERED = (_execute, _child, _table)
"""Imported for the names that they register: a run's configuration may use any of them."""

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit (at least 1)."""

OTHER_ARITHMETIC = 0.005
"""How far an accuracy may be from a score that another device computed."""

TRAINED_AGAIN = 0.03
"""The same of weights that were trained again: with another number of threads, or on a CPU that trains in another
precision, they are others. That moves an accuracy by less than .01 on average (docs/benchmarks.md, "Schedules")."""

BATCH_SIZE = 256
"""Examples that are computed at a time."""

TIMEOUT_S = 3600.0
"""How long the check in a fresh process may take for one batch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exportable:
    """A trained child and all that its card says.

    `score` is the journalled one, a share of 1, `scores` those of all seeds from which the search trained its network.
    `lineage` is the trial, its parent, and so on. `weights` is the state dict that the score belongs to; with `final`,
    that of the first seed of this final training, whose test accuracy it has. `same_arithmetic` tells whether the score
    was computed in float32 on a CPU, as the check is; `trained_again` whether the weights are not those that the search
    left.
    """

    trial: Trial
    score: float
    scores: tuple[float, ...]
    lineage: tuple[int, ...]
    graph: NetworkGraph
    weights: Mapping[str, Tensor]
    data: ScoredData
    config: ExperimentConfig
    same_arithmetic: bool = True
    trained_again: bool = False
    final: FinalTraining | None = None

    @property
    def splits(self) -> Splits:
        """What the network was found on."""
        return self.data.splits


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A finished export: where it lies and what its check measured. Accuracies are shares of 1.

    With `final`, the weights are of that final training: the validation examples were trained on, and say nothing.
    """

    directory: ExportDirectory
    trial: int
    score: float
    max_abs_difference: float
    validation_accuracy: float | None
    test_accuracy: float
    trained_again: bool
    final: FinalTraining | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What the check found, by split."""

    max_abs_difference: float = 0.0
    accuracies: Mapping[str, float] = field(default_factory=dict)
    num_images: int = 0


def export_best(
    run: RunDirectory,
    out: Path | None,
    tell: Callable[[str], None],
    device: torch.device | None = None,
    wanted: WeightsOf | None = None,
) -> Verified:
    """Export the best trial of a run to `out`, by default its `export/`; of the run only decoded data is made again.

    The weights are those of its final training where there is one that is no shorter than the search's, or those that
    are `wanted`. When the search's checkpoint is lost, `tell` hears so and the trial is trained again on `device`
    (default: what a worker would use). Raises what `no_score` says, ConfigError for a place that holds other things,
    DataError when the data is not what the run was begun with, NasflowError when what was written does not compute what
    was scored.
    """
    refuse_links(run)  # also with `out`: decoded data may be made again in the run
    place = run.export if out is None else out
    check_place(place)
    config = experiment_of(run)
    if config.table is not None:
        raise ConfigError(
            f"{run.root} searched a table of results: nothing was trained, so there is no network to export; see "
            "`nasflow show` for the best architecture, and train it with `evaluator: train`"
        )
    history = history_of(read_events(run.journal), run.journal)
    best = history.leader()
    if best is None:
        raise no_score(run)

    def act(data: ScoredData) -> Verified:
        winner = _Winner(run=run, config=config, best=best, lineage=history.lineage(best.trial))
        return export_network(_exportable(winner, data, tell, device, wanted), place)

    return use_scored(config, run, act, tell)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Winner:
    """The best network of a run, and the trials that it goes on from."""

    run: RunDirectory
    config: ExperimentConfig
    best: Standing
    lineage: tuple[int, ...]


def _exportable(
    winner: _Winner,
    data: ScoredData,
    tell: Callable[[str], None],
    device: torch.device | None,
    wanted: WeightsOf | None,
) -> Exportable:
    run, config, trial, result = winner.run, winner.config, winner.best.trial, winner.best.result
    graph = SearchSpace(config.space, operation_facts()).graph(trial.architecture)
    final, weights = final_weights(run, trial, tell, wanted)
    if weights is None:
        weights = searched_weights(run, trial, config, tell)
    if weights is not None and not _fits(graph, data.splits, weights):
        if wanted is WeightsOf.FINAL:
            raise RunDirectoryError(
                f"{run.root}: the checkpoint of the final training is of another network; `nasflow train` with other "
                "--epochs makes one of this"
            )
        tell(f"trial {trial.number}: its checkpoint is of another network")
        final = weights = None
    is_lost = weights is None
    if weights is None:
        tell(f"training trial {trial.number} again, {counted(trial.budget, 'epoch')} from its own seed")
        weights = trained_again(config, trial, device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    assert result.score is not None  # noqa: S101 - the best trial has one
    return Exportable(
        trial=trial,
        score=result.score,
        scores=winner.best.scores,
        lineage=winner.lineage,
        graph=graph,
        weights=weights,
        data=data,
        config=config,
        same_arithmetic=not (_used_gpu(run) if final is None else final.results[0].gpu),
        trained_again=is_lost,
        final=final,
    )


def export_network(export: Exportable, out: Path, timeout_s: float = TIMEOUT_S) -> Verified:
    """Write the network to `out` and check it in a fresh process; an earlier export there is replaced whole.

    Raises ConfigError when `out` holds other things, and NasflowError when a module cannot be written as source or
    the files do not compute what was scored; nothing is left behind then.
    """
    splits = export.splits
    network = _network(export.graph, splits, export.weights)
    with staged(out) as directory:
        inputs = InputFacts(shape=splits.input_shape, mean=splits.mean, std=splits.std, features=splits.features)
        source = network_source(network, inputs, splits.classes, _title(export))
        names = state_names(network)
        # Cloned: safetensors refuses tensors that share their memory.
        tensors = {names[name]: value.clone().contiguous() for name, value in network.state_dict().items()}
        write_whole(directory.source, source)
        write_whole(directory.weights, save(tensors))
        measured = _check(export, network, directory, timeout_s)
        card = _card(export, measured, directory)
        write_whole(directory.readable_card, readable(card))
        write_whole(directory.card, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    return Verified(
        directory=ExportDirectory(out),
        trial=export.trial.number,
        score=export.score,
        max_abs_difference=measured.max_abs_difference,
        validation_accuracy=measured.accuracies["validation"] if export.final is None else None,
        test_accuracy=measured.accuracies["test"],
        trained_again=export.trained_again,
        final=export.final,
    )


def _network(graph: NetworkGraph, splits: Splits, weights: Mapping[str, Tensor]) -> Network:
    """The network with its weights. Raises RuntimeError when they are of another one."""
    network = build(graph, splits.input_shape, splits.num_classes, seed=0)
    network.load_state_dict(dict(weights))
    return network


def _fits(graph: NetworkGraph, splits: Splits, weights: Mapping[str, Tensor]) -> bool:
    try:
        _network(graph, splits, weights)
    except RuntimeError:
        return False
    return True


def _check(export: Exportable, network: Network, directory: ExportDirectory, timeout_s: float) -> _Measured:
    """Compare what the files compute with what the network computes here, and both with the journal."""
    here = torch.nn.Sequential(Normalise(export.splits, torch.device("cpu")), network).eval()
    with in_fresh_process(directory.source, timeout_s) as there:
        compared = {name: compare(name, _pairs(feed), here, there) for name, feed in export.data.feeds.items()}
    for name, each in compared.items():
        allowed = TOLERANCE * max(1.0, each.largest)
        if not each.difference <= allowed:  # also when it is NaN
            raise differs(f"a logit of the {name} examples differs by {each.difference:.3g} (allowed: {allowed:.3g})")
        if abs(each.right_here - each.right_there) > 1:
            raise differs(
                f"{each.right_there} {name} examples of {each.num} are classified rightly, not {each.right_here}"
            )
    accuracies = {name: each.right_there / each.num for name, each in compared.items()}
    _compare_with_score(export, accuracies)
    return _Measured(
        max_abs_difference=max(each.difference for each in compared.values()),
        accuracies=accuracies,
        num_images=sum(each.num for each in compared.values()),
    )


def _pairs(feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches and their labels."""
    return zip(feed.in_turn(BATCH_SIZE), torch.split(feed.labels, BATCH_SIZE), strict=True)


def _compare_with_score(export: Exportable, accuracies: Mapping[str, float]) -> None:
    """Compare with what was scored: by the search the validation split, by a final training the test split."""
    name, split, known = "validation", export.splits.validation, export.score
    trial = f"trial {export.trial.number} was journalled with a score"
    if export.final is not None:
        name, split, known = "test", export.splits.test, export.final.results[0].test_accuracy
        trial = f"the final training of trial {export.final.trial} is recorded with a test accuracy"
    accuracy, one_image = accuracies[name], 1 / len(split)
    allowed = one_image if export.same_arithmetic else max(one_image, OTHER_ARITHMETIC)
    if export.trained_again:
        allowed = max(allowed, TRAINED_AGAIN)
    if abs(accuracy - known) > allowed + 1e-9:
        why = "trained again, it" if export.trained_again else "its network"
        raise NasflowError(
            f"{trial} of {known:.6f}, but {why} has a "
            f"{name} accuracy of {accuracy:.6f} (allowed difference: {allowed:.6f}); nothing was kept. See whether "
            "the data has changed since the search"
        )


def _card(export: Exportable, measured: _Measured, directory: ExportDirectory) -> dict[str, object]:
    trial, splits, config = export.trial, export.splits, export.config
    about = cost(export.graph, splits.input_shape, splits.num_classes)
    scored = (
        {"test": splits.test} if export.final is not None else {"validation": splits.validation} | {"test": splits.test}
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "key": trial.key,
        "architecture": trial.architecture.to_json(),
        "found": {
            "trial": trial.number,
            "lineage": list(export.lineage),
            "phase": trial.phase,
            "turn": trial.turn,
            "bracket": trial.bracket,
            "rung": trial.rung,
            "budget_epochs": trial.budget,
            "seed": trial.seed,
            "score": export.score,
            "num_seeds": len(export.scores),
            "mean_score": mean_of(export.scores),
            "spread_score": spread_of(export.scores),
            "trained_again": export.trained_again,
        },
        "final": None if export.final is None else _final_facts(export.final),
        "params": about.params,
        "flops": about.flops,
        "flops_unit": "floating-point operations of one forward pass, 2 per multiply-add",
        "input": {
            "shape": list(splits.input_shape),
            "value_range": [0, 255] if len(splits.input_shape) == 3 else None,
            "mean": list(splits.mean),
            "std": list(splits.std),
            "features": list(splits.features),
        },
        "classes": list(splits.classes),
        "split": {
            # Paths stay out: they say where the data lay on one machine.
            **config.data_section.model_dump(mode="json", exclude={"path", "test_path", "augment"}),
            "num_train": len(splits.train),
            "test_indices": None if splits.test_indices is None else list(splits.test_indices),
        },
        "validation": None,
        **{name: {"accuracy": measured.accuracies[name], "num_images": len(split)} for name, split in scored.items()},
        "training": {
            **config.training.model_dump(mode="json", exclude={"checkpoint_every_s"}),
            "augment": config.data_section.augment.model_dump(mode="json"),
        },
        "verification": {
            "max_abs_difference": measured.max_abs_difference,
            "num_images": measured.num_images,
        },
        "versions": {"nasflow": __version__, "python": platform.python_version(), "torch": torch.__version__}
        | {"safetensors": version("safetensors")},
        "sha256": {path.name: _sha256(path) for path in (directory.source, directory.weights)},
    }


def _final_facts(final: FinalTraining) -> dict[str, object]:
    first = final.results[0]
    return {
        "trial": final.trial,
        "epochs": final.epochs,
        "num_train": first.num_train,
        "weights_of_seed": first.number,
        "seed": first.seed,
        "num_seeds": len(final.results),
        "mean_test_accuracy": final.mean,
        "spread_test_accuracy": final.spread,
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _title(export: Exportable) -> str:
    epochs = export.trial.budget if export.final is None else export.final.epochs
    return (
        f"The network of trial {export.trial.number} of the search {export.config.name!r}, trained for "
        f"{counted(epochs, 'epoch')} on {export.config.data_section.source}."
    )


def _used_gpu(run: RunDirectory) -> bool:
    """Whether the run's record of its devices names a GPU; without a record, whether this machine has one."""
    try:
        devices = json.loads(run.environment.read_text(encoding="utf-8"))["devices"]
    except (OSError, ValueError, KeyError, TypeError):
        return torch.cuda.is_available()
    text = json.dumps(devices).lower()
    return any(word in text for word in ("cuda", "gpu", "nvidia"))
