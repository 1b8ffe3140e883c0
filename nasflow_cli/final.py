"""Final training: one network of a run is trained from scratch on training and validation data, and tested once.

It writes under the run's `final/` and leaves the journal as it is; the run's lock is held meanwhile. What is finished
is not repeated, what was interrupted goes on. Refuses to choose: which network is said beforehand, and no seed is
preferred for its test score.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.counted import counted
from nasflow_cli.core.errors import EXIT_STOPPED_EARLY, ConfigError, RunDirectoryError
from nasflow_cli.core.seeds import Purpose, derived_seed
from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.execute import make_executor
from nasflow_cli.execute.devices import device_slots, usable_cores, with_memory
from nasflow_cli.execute.protocol import Executor, Outcome, Slot, Task
from nasflow_cli.search import POLL_S, Stop, result_of, take
from nasflow_cli.store.files import make_directory, remove_leftovers
from nasflow_cli.store.final_results import FinalResult, FinalTraining, read_result, write_result
from nasflow_cli.store.journal import history_of, no_score, read_events
from nasflow_cli.store.links import refuse_links
from nasflow_cli.store.lock import RunLock
from nasflow_cli.store.progress import final_work
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train import final as _final
from nasflow_cli.train.final import FinalAssignment
from nasflow_cli.train.run_data import experiment_of, selection_of
from nasflow_cli.train.worker_data import shared_by, store_data, worker_setup

REGISTERED = (_final,)
"""Imported for the name that it registers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be trained: the network of `trial`, from `num_seeds` seeds, for `epochs` on `num_train` examples."""

    config: ExperimentConfig
    trial: Trial
    epochs: int
    num_seeds: int
    num_train: int

    def assignment(self, number: int) -> FinalAssignment:
        """What a worker is told of a seed."""
        return FinalAssignment(
            trial=self.trial.number,
            key=self.trial.key,
            architecture=self.trial.architecture,
            epochs=self.epochs,
            number=number,
            seed=derived_seed(self.config.seed, number, Purpose.FINAL),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How a final training ended. `training` is None while no seed has a result; `failed` says why, by seed."""

    plan: Plan
    training: FinalTraining | None
    failed: dict[int, str]
    missing: tuple[int, ...]

    @property
    def finished(self) -> bool:
        """Whether every seed has ended, well or not."""
        return not self.missing


def plan(run: RunDirectory, trial: int | None, epochs: int | None, num_seeds: int) -> Plan:
    """Decide what to train: by default the best trial, for the search's largest budget. Reads only.

    Raises ConfigError for a run that trains nothing itself or has no such trial, what `no_score` says when no trial
    has a score, MissingError or DataError when its data cannot be read any more or is not what it was.
    """
    config = experiment_of(run)
    if config.table is not None:
        raise ConfigError(
            f"{run.root} searched a table of results, so there is no data to train on; see `nasflow show` for the best "
            "architecture, and train it with `evaluator: train`"
        )
    if config.evaluator_name != "train":
        raise ConfigError(
            f"{run.root} was evaluated by {config.evaluator_name!r}; final training is that of the evaluator 'train'"
        )
    chosen = _chosen(run, history_of(read_events(run.journal), run.journal), trial)
    num_train, num_validation, _ = selection_of(config, run).sizes
    return Plan(
        config=config,
        trial=chosen,
        epochs=config.search.budget.max if epochs is None else epochs,
        num_seeds=num_seeds,
        num_train=num_train + num_validation,
    )


def _chosen(run: RunDirectory, history: History, number: int | None) -> Trial:
    if number is None:
        best = history.best()
        if best is None:
            raise no_score(run)
        return best[0]
    if number >= len(history.trials):
        raise ConfigError(f"{run.root} has no trial {number} (there are {len(history.trials)}, from 0)")
    return history.trials[number]


@contextmanager
def open_training(
    run: RunDirectory,
    plan: Plan,
    tell: Callable[[str], None],
    stop: Stop,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Iterator[Training]:
    """Lock a run and make the training of what has no result yet live; workers end with the block.

    `tell` hears what is trained, once the run is locked, and of each seed that ends. Data that memory does not hold is
    decoded here, before a signal is only a wish: a search does the same. Raises RunDirectoryError when the run is
    locked by another or a result is damaged.
    """
    refuse_links(run)
    with ExitStack() as stack:
        stack.enter_context(RunLock(run.lock, work=final_work(run, plan.trial.number, plan.epochs)))
        tell(announced(plan))
        if plan.config.data_section.hub.revision is not None:
            tell(f"data: {plan.config.data_section.path} at commit {plan.config.data_section.hub.revision}")
        known = ((number, _known(run, plan, number)) for number in range(plan.num_seeds))
        done = {number: result for number, result in known if result is not None}
        for number, result in done.items():
            tell(f"seed {number}: {described(result)} (known already)")
        executor = None
        if len(done) < plan.num_seeds:
            executor = stack.enter_context(_executor(run, plan))
            store_data(shared_by(plan.config, executor.slots_a_machine), run)
        yield Training(run=run, plan=plan, executor=executor, tell=tell, stop=stop, out_of_time=out_of_time, done=done)


def announced(plan: Plan) -> str:
    """What is about to be trained, in a few words."""
    return (
        f"training trial {plan.trial.number} (key {plan.trial.key}) from scratch: {counted(plan.epochs, 'epoch')} on "
        f"{counted(plan.num_train, 'example')}, validation included; {counted(plan.num_seeds, 'seed')}"
    )


def described(result: FinalResult) -> str:
    """A result in a few words."""
    return f"test accuracy {result.test_accuracy:.4f} on {counted(result.num_test, 'example')}"


def _known(run: RunDirectory, plan: Plan, number: int) -> FinalResult | None:
    """The result that a seed has. Raises RunDirectoryError for one that is damaged or of something else."""
    assignment = plan.assignment(number)
    path = run.final_training(assignment.trial, assignment.epochs, number).result
    result = read_result(path)
    if result is not None and (result.key, result.seed) != (assignment.key, assignment.seed):
        raise RunDirectoryError(f"{path} is of another network or seed than this run's; move {path.parent} away")
    return result


def _slots(plan: Plan) -> tuple[Slot, ...]:
    """As many places as there are seeds, at most as many as a search has: a lone one gets all the cores.

    By the number of all seeds, not of those that are left: how many threads sum up changes the last digits.
    """
    settings, visible = plan.config.executor, os.environ.get("CUDA_VISIBLE_DEVICES")

    def places(workers: int | None) -> Sequence[Slot]:
        return device_slots(workers, settings.children_per_device, visible, torch.cuda.device_count, usable_cores())

    return with_memory(places(min(plan.num_seeds, len(places(settings.workers)))), settings.memory_gib)


def _executor(run: RunDirectory, plan: Plan) -> Executor:
    """A worker for each slot, or on a cluster at most one for each seed."""
    settings = plan.config.executor
    at_most = settings.model_copy(update={"workers": min(plan.num_seeds, settings.workers or plan.num_seeds)})
    return make_executor(
        at_most, "nasflow_cli.train.final:make_handler", worker_setup(plan.config, run), _slots(plan), None
    )


@dataclass(slots=True, kw_only=True)
class Training:
    """A final training under way. `done` and `failed` are by seed; without an `executor` all are done."""

    run: RunDirectory
    plan: Plan
    executor: Executor | None
    tell: Callable[[str], None]
    stop: Stop
    out_of_time: Callable[[], bool]
    done: dict[int, FinalResult]
    failed: dict[int, str] = field(default_factory=dict)

    def work(self) -> Trained:
        """Train every seed that has no result yet, until all have ended or `stop` says so.

        Raises RunDirectoryError when a worker could not write.
        """
        if self.executor is not None:
            self._work(self.executor, [number for number in range(self.plan.num_seeds) if number not in self.done])
        plan, results = self.plan, tuple(self.done[number] for number in sorted(self.done))
        return Trained(
            plan=plan,
            training=FinalTraining(trial=plan.trial.number, key=plan.trial.key, epochs=plan.epochs, results=results)
            if results
            else None,
            failed=self.failed,
            missing=tuple(n for n in range(plan.num_seeds) if n not in self.done and n not in self.failed),
        )

    def _work(self, executor: Executor, queue: list[int]) -> None:
        while True:
            while queue and self.stop.why is None and len(executor.running) < executor.slots:
                self._submit(executor, queue.pop(0))
            if not executor.running and not queue:
                return
            if self.stop.why is not None:
                self.tell(f"stopping: {self.stop.why}; waiting for {len(executor.running)} to checkpoint")
                self._take(executor.stop(self.plan.config.executor.grace_s))
                return
            self._take(executor.collect(POLL_S))
            if self.stop.why is None and self.out_of_time():
                self.stop.why, self.stop.exit_code = "the time limit is reached", EXIT_STOPPED_EARLY

    def _submit(self, executor: Executor, number: int) -> None:
        place = self.run.final_training(self.plan.trial.number, self.plan.epochs, number)
        make_directory(place.root)
        remove_leftovers(place.root)
        executor.submit(Task(number=number, payload=self.plan.assignment(number).to_json(), log=place.log))

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        take(outcomes, self._end, what="seed", go_on="the same `nasflow train`")

    def _end(self, outcome: Outcome) -> None:
        number, result = outcome.number, result_of(outcome)
        for note in result.notes:
            self.tell(f"seed {number}: {note}")
        if result.score is None:
            log = self.run.final_training(self.plan.trial.number, self.plan.epochs, number).log
            self.failed[number] = f"{result.error}"
            self.tell(f"seed {number}: failed: {result.error}; its log is {log}")
            return
        self.done[number] = self._final(number, result.score, result)
        write_result(self.run, self.done[number])
        self.tell(f"seed {number}: {described(self.done[number])}")

    def _final(self, number: int, accuracy: float, result: Result) -> FinalResult:
        assignment, metrics = self.plan.assignment(number), result.metrics
        return FinalResult(
            trial=assignment.trial,
            key=assignment.key,
            epochs=assignment.epochs,
            number=number,
            seed=assignment.seed,
            test_accuracy=accuracy,
            test_loss=metrics["test_loss"],
            train_loss=metrics["train_loss"],
            num_train=int(metrics["num_train"]),
            num_test=int(metrics["num_test"]),
            params=int(metrics["params"]),
            flops=int(metrics["flops"]),
            gpu=bool(metrics["gpu"]),
            seconds=result.seconds,
            notes=result.notes,
        )
