"""The composition root: an experiment becomes live objects. The only module that knows which classes are played.

Everything a search needs is checked here before a run directory exists: names, data, and that the space has members.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch

import nasflow_cli
import nasflow_cli.execute
import nasflow_cli.nets
import nasflow_cli.train.child
import nasflow_cli.train.data
import nasflow_cli.train.table
from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.config_difference import another_experiment
from nasflow_cli.core.data_record import DataRecord
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.executor_config import ExecutorConfig
from nasflow_cli.core.experiment_file import Mistake, load_experiment
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.plausible import implausible, notes
from nasflow_cli.core.registry import load_plugins
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import ConstraintsConfig
from nasflow_cli.environment import environment
from nasflow_cli.execute.cluster import require_ray
from nasflow_cli.execute.devices import device_slots, usable_cores, with_memory
from nasflow_cli.execute.protocol import Executor, Slot
from nasflow_cli.nets.constraints import Constraints
from nasflow_cli.nets.cost import Cost
from nasflow_cli.nets.fits import misfits
from nasflow_cli.nets.lone_example import check_batches
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.optim.alternating import Alternating
from nasflow_cli.optim.confirm import Confirming
from nasflow_cli.optim.plan import hyperband, planned_brackets
from nasflow_cli.optim.proposals import NoRanker, Ranker
from nasflow_cli.predict.ranker import GraphRanker
from nasflow_cli.search import Observer, Optimizer, Search, Stop
from nasflow_cli.store.journal import Journal, JournalHeader, header_of, history_of, read_events
from nasflow_cli.store.links import refuse_links
from nasflow_cli.store.lock import RunLock
from nasflow_cli.store.new_run import keep_config, make_run
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data import Outline
from nasflow_cli.train.data.limit import memory_limit
from nasflow_cli.train.run_data import at_recorded
from nasflow_cli.train.table import Table
from nasflow_cli.train.table_check import share_with_a_row, table_mistakes
from nasflow_cli.train.worker_data import data_outline, shared_by, store_data, worker_setup

FEASIBILITY_SAMPLES = 200
"""Members drawn to find one that satisfies the constraints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A checked experiment: its data is readable and its space has members that may be trained.

    Where scores are looked up, `table` is set and `data` is not. Without `constraints` nobody said what goes into a
    network, and nothing is known of what a member costs.
    `with_row` is the share of members that may be trained and have a row in the table; `notes` say what is valid and
    may still not be meant.
    """

    config: ExperimentConfig
    space: SearchSpace
    feasible_share: float
    data: Outline | None = None
    table: Table | None = None
    constraints: Constraints | None = None
    cost_range: tuple[Cost, Cost] | None = None
    with_row: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def pinned(self) -> ExperimentConfig:
        """The experiment with its data at the commit that was looked at, where it lies on a hub."""
        return self.config.at_revision(None if self.data is None else self.data.record.revision)

    def is_feasible(self, graph: NetworkGraph) -> bool:
        """Whether a graph is a member that satisfies every constraint."""
        return graph.fault is None and not (self.constraints and self.constraints.violations(graph))


def load(path: Path, overrides: Sequence[str], *, is_new: bool = True) -> ExperimentConfig:
    """Read an experiment file, with its plug-ins. Raises ConfigError that lists every mistake with its place.

    What cannot be meant is refused of a new experiment alone: a run that has it was begun before that was looked for.
    """

    def mistakes(config: ExperimentConfig) -> Iterator[Mistake]:
        return chain(implausible(config) if is_new else (), table_mistakes(config))

    return load_experiment(path, overrides, load_plugins, mistakes)


def check(config: ExperimentConfig, known: DataRecord | None = None) -> Experiment:
    """Check all that can be checked short of training. Raises ConfigError, DataError or MissingError.

    `known` is what a run that goes on was begun on: data on a hub is looked at as it was then.
    """
    space = SearchSpace(config.space, operation_facts())
    if not space.searched:
        raise ConfigError("space: there is nothing to search in either half; give one of its domains two values")
    if not planned_brackets(config.search.budget, config.search.turn_brackets, config.search.trials):
        needed = hyperband(config.search.budget)[0].num_trials
        raise ConfigError(
            f"search.trials: {config.search.trials} trials are fewer than the {needed} that the first bracket needs; "
            "raise it, or lower search.budget.eta"
        )
    if config.executor.kind == "ray":
        require_ray(starts=config.executor.cluster is None)
    data = None if config.data is None else look_at_data(at_recorded(config, known))
    table = None if config.table is None else Table.read(config.table)
    constraints = _constraints(config, data)
    members = _feasible(config, space, constraints)
    num_train = None if data is None or config.evaluator_name != "train" else data.num_train
    if num_train is not None and constraints is not None:
        graphs = [graph for _, graph in members]
        check_batches(config.training, num_train, graphs, constraints.input_shape, constraints.num_classes)
    costs = [] if constraints is None else [constraints.cost(graph) for _, graph in members]
    return Experiment(
        config=config,
        space=space,
        data=data,
        table=table,
        constraints=constraints,
        feasible_share=len(members) / FEASIBILITY_SAMPLES,
        cost_range=_range(costs) if costs else None,
        with_row=None if table is None else _with_row(table, space, [member for member, _ in members]),
        notes=(() if data is None else data.notes)
        + notes(
            config,
            num_train=num_train,
            is_streamed=data is not None and data.is_streamed,
            num_workers=0 if config.executor.kind == "inline" else len(worker_names(config)),
            num_cores=usable_cores(),
        ),
    )


def input_of(config: ExperimentConfig, data: Outline | None) -> tuple[tuple[int, ...], int] | None:
    """The shape of one example and the number of classes: of the data, or of what a table says; None: not known."""
    if data is not None:
        return data.input_shape, data.num_classes
    table = config.table
    if table is not None and table.input_shape is not None and table.classes is not None:
        return table.input_shape, table.classes
    return None


def load_input(config: ExperimentConfig) -> tuple[tuple[int, ...], int]:
    """Like `input_of`, looking at the data. Raises ConfigError where it is not known, DataError or MissingError."""
    given = input_of(config, None if config.data is None else look_at_data(config))
    if given is None:
        raise ConfigError("what goes into a network is not known without data; say it with --input")
    return given


def look_at_data(config: ExperimentConfig) -> Outline:
    """What the data is. All of it is decoded and checked where memory holds it; else one example of it."""
    # Who looks at it for a cluster, whose machines have other workers, does so alone.
    return data_outline(shared_by(config, 1 if config.executor.cluster else len(slots(config))))


def _with_stored_data(experiment: Experiment, run: RunDirectory, workers: int) -> Experiment:
    """Have data that memory does not hold decoded before the first trial, so that what is wrong with it ends no trial.

    So many workers share a machine at most. Only now is it known whether all images are grey. Raises what decoding
    raises, and NoRoomError.
    """
    config = shared_by(experiment.pinned, workers)
    if experiment.data is None or experiment.data.num_bytes <= memory_limit(config.executor):
        return experiment
    known = store_data(config, run)
    if known is None or known.input_shape == experiment.data.input_shape:
        return experiment
    return replace(experiment, data=known, constraints=_constraints(experiment.config, known))


def _constraints(config: ExperimentConfig, data: Outline | None) -> Constraints | None:
    given = input_of(config, data)
    if given is not None:
        check_input(config, given[0])
        return Constraints(config.space.constraints, *given)
    if config.space.constraints != ConstraintsConfig():
        raise ConfigError("space.constraints: what a member costs is not known without data; remove them")
    return None


def _range(costs: Sequence[Cost]) -> tuple[Cost, Cost]:
    low, high = (Cost(params=end(c.params for c in costs), flops=end(c.flops for c in costs)) for end in (min, max))
    return low, high


def _with_row(table: Table, space: SearchSpace, members: Sequence[Architecture]) -> float:
    """Share of the members that have a row. Raises ConfigError when none has."""
    share, miss = share_with_a_row(table, [space.settings(member) for member in members])
    if share == 0:
        raise ConfigError(
            f"evaluator: none of {len(members)} sampled members has a row in {table.columns.path}; the nearest miss: "
            f"{miss}. Give the table's words under evaluator.values"
        )
    return share


def _feasible(
    config: ExperimentConfig, space: SearchSpace, constraints: Constraints | None
) -> list[tuple[Architecture, NetworkGraph]]:
    """The sampled members that may be trained, with their graphs. Raises ConfigError for none."""
    found: list[tuple[Architecture, NetworkGraph]] = []
    nearest: tuple[float, str] | None = None
    fault: str | None = None
    for number in range(FEASIBILITY_SAMPLES):
        member, graph = space.sample_member(generator(config.seed, number, Purpose.FEASIBLE))
        if graph.fault is not None:
            fault = graph.fault
            continue
        broken = [] if constraints is None else constraints.violations(graph)
        if not broken:
            found.append((member, graph))
            continue
        miss = sum(violation.distance for violation in broken)
        if nearest is None or miss < nearest[0]:
            nearest = (miss, "; ".join(map(str, broken)))
    if not found:
        hint = f"the nearest miss: {nearest[1]}" if nearest else f"in one of them {fault}"
        raise ConfigError(
            f"space.constraints: none of {FEASIBILITY_SAMPLES} sampled members satisfies them; {hint}. "
            "Widen the constraints or the domains"
        )
    return found


def check_input(config: ExperimentConfig, input_shape: Sequence[int]) -> None:
    """Raise ConfigError for what the space cannot do with examples of this shape."""
    if unfit := misfits(config.space, input_shape):
        raise ConfigError("\n".join(unfit))


def slots(config: ExperimentConfig) -> tuple[Slot, ...]:
    """The device slots that the experiment will use on this machine."""
    return _slots(config.executor)


def worker_names(config: ExperimentConfig) -> list[str]:
    """The names of the workers; empty where only a cluster knows how many there are."""
    return [] if config.executor.cluster else [slot.name for slot in slots(config)]


def default_slots() -> tuple[Slot, ...]:
    """The device slots that an experiment with no word about its executor would use on this machine."""
    return _slots(ExecutorConfig())


def _slots(settings: ExecutorConfig) -> tuple[Slot, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = device_slots(
        settings.workers, settings.children_per_device, visible, torch.cuda.device_count, usable_cores()
    )
    return with_memory(found, settings.memory_gib)


def new_run(experiment: Experiment, source: Path, run_directory: Path | None) -> RunDirectory:
    """Make a run directory, or take the named one. Raises ConfigError for a folder of other things."""
    return make_run(experiment.config, source, run_directory, environment())


def make_ranker(config: ExperimentConfig, space: SearchSpace) -> Ranker:
    """The surrogate that the experiment asks for."""
    if not config.search.predictor.enabled:
        return NoRanker()
    return GraphRanker(config.search.predictor, config.seed, space)


def make_optimizer(experiment: Experiment) -> Optimizer:
    """The search engine, and what confirms its winner."""
    return Confirming(make_engine(experiment), experiment.config.search, experiment.config.seed)


def make_engine(experiment: Experiment) -> Alternating:
    """The search engine."""
    config = experiment.config
    is_feasible = lru_cache(maxsize=10_000)(experiment.is_feasible)
    ranker = make_ranker(config, experiment.space)
    return Alternating(config.search, config.seed, experiment.space, is_feasible, ranker)


def make_executor(config: ExperimentConfig, run: RunDirectory) -> Executor:
    """What runs trials: worker processes, here or on a cluster, or this process. Raises MissingError."""
    return nasflow_cli.execute.make_executor(
        config.executor,
        "nasflow_cli.train.worker:make_handler",
        worker_setup(config, run),
        slots(config),
        config.executor.trial_time_limit_s,
    )


@contextmanager
def open_search(
    experiment: Experiment,
    run: RunDirectory,
    observer: Observer,
    stop: Stop,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Search]:
    """Lock a run, read its journal and make everything live; workers end with the block.

    Raises RunDirectoryError when the run is locked or damaged or a link leads out of it, ConfigError when it belongs to
    another experiment, DataError when it was begun on other data, MissingError when its executor is not there.
    """
    config = experiment.config
    torch.set_num_threads(1)  # the predictor must not depend on how many cores there are, nor take them from children
    refuse_links(run)
    with ExitStack() as stack:
        stack.enter_context(RunLock(run.lock))
        journal, events = Journal.resume(run.journal)
        stack.enter_context(journal)
        _check_identity(experiment, run, events)
        keep_config(run, config)
        executor = stack.enter_context(make_executor(experiment.pinned, run))
        experiment = _with_stored_data(experiment, run, executor.slots_a_machine)
        if not events:
            header = JournalHeader(
                nasflow_version=nasflow_cli.__version__,
                config_sha256=config.identity(),
                started=time.time(),
                data=None if experiment.data is None else experiment.data.record,
            )
            journal.append(header.to_json())
        history = history_of(events, run.journal)
        del events  # they are larger than the history, and this frame lives as long as the search
        began, limit = clock(), config.search.time_limit_s
        yield Search(
            run=run,
            optimizer=make_optimizer(experiment),
            executor=executor,
            journal=journal,
            history=history,
            observer=observer,
            stop=stop,
            out_of_time=lambda: limit is not None and clock() - began >= limit,
            grace_s=config.executor.grace_s,
        )


def is_finished(run: RunDirectory) -> bool:
    """Whether the journal says that the search is over."""
    events = read_events(run.journal) if run.journal.exists() else []
    return bool(events) and events[-1]["event"] == "finished"


def _check_identity(experiment: Experiment, run: RunDirectory, events: list[dict[str, Any]]) -> None:
    header = header_of(events, run.journal)
    if header is None:
        return
    if header.config_sha256 != experiment.config.identity():
        known = load(run.resolved_config, (), is_new=False) if run.resolved_config.exists() else None
        if known is not None and known.identity() != header.config_sha256:
            known = None
        raise ConfigError(another_experiment(str(run.root), str(run.resolved_config), known, experiment.config))
    if header.data is not None and experiment.data is not None:
        header.data.check_same(experiment.data.record)
