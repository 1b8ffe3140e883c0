"""The search, from an empty journal or a full one: ask, run, record, tell, until the optimiser is done. READ FIRST.

Knows how the parts are played together, and nothing of what they are: the optimiser proposes, the executor runs, the
journal remembers. Prints nothing; an observer may.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nasflow_cli.core.errors import EXIT_STOPPED_EARLY, RunDirectoryError
from nasflow_cli.core.trial import ErrorKind, History, Result, Trial, best_first
from nasflow_cli.execute.protocol import Executor, Outcome, Task
from nasflow_cli.store.files import remove, remove_leftovers
from nasflow_cli.store.hpbandster_files import write_hpbandster_files
from nasflow_cli.store.journal import Journal
from nasflow_cli.store.leaderboard import write_leaderboard
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.protocol import Assignment

POLL_S = 0.5
"""How long a signal or a time limit can go unnoticed, in seconds."""


class Optimizer(Protocol):
    """Proposes trials. `ask` is a function of the history; it never runs, prints or writes."""

    def ask(self, history: History) -> Trial | None:
        """The next trial, or None: the search is over, or only results can tell what is next."""
        ...

    def reason(self, history: History) -> str | None:
        """Why the search is over, or None while it is not."""
        ...

    def wanted_checkpoints(self, history: History) -> set[int]:
        """Trials whose checkpoints may still be gone on from."""
        ...


class Observer(Protocol):
    """Is told what happens, as it happens."""

    def asked(self, trial: Trial) -> None:
        """A trial was handed out."""
        ...

    def told(self, trial: Trial, result: Result, history: History) -> None:
        """A trial ended, and the journal has it."""
        ...

    def stopping(self, why: str, running: int) -> None:
        """Nothing new is handed out; running trials are asked to checkpoint."""
        ...


@dataclass(slots=True)
class Stop:
    """A wish to stop early. Set by a signal handler or a time limit; read between two steps of the loop."""

    why: str | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a search ended. `finished` is false when there is work left; `reason` says why it ended."""

    finished: bool
    reason: str


@dataclass(slots=True, kw_only=True)
class Search:
    """One run, live. `keep_best` is how many of the best trials keep their checkpoints after the search."""

    run: RunDirectory
    optimizer: Optimizer
    executor: Executor
    journal: Journal
    history: History
    observer: Observer
    stop: Stop
    out_of_time: Callable[[], bool]
    grace_s: float
    keep_best: int = 3
    _queue: list[Trial] = field(default_factory=list)
    _checkpoints: set[int] = field(default_factory=set)
    _best: list[tuple[Trial, Result]] = field(default_factory=list)
    _show_at: int = 0

    def work(self) -> Ending:
        """Run until the optimiser is done or a stop is wished for. A new run has an empty history."""
        for killed_in in (self.run.root, self.run.hpbandster):
            remove_leftovers(killed_in)
        self._queue = self.history.pending()
        self._checkpoints = set(self.history.results)
        self._best = heapq.nsmallest(self.keep_best, self.history.searched(), key=best_first)
        while True:
            while self._may_submit() and (trial := self._next()) is not None:
                self._submit(trial)
            if self.stop.why is not None:
                self._wind_down(self.stop.why)
                return Ending(finished=False, reason=self.stop.why)
            if not self.executor.running and not self._queue:
                return self._finish()
            self._take(self.executor.collect(POLL_S))
            if self.stop.why is None and self.out_of_time():
                self.stop.why, self.stop.exit_code = "the time limit is reached", EXIT_STOPPED_EARLY

    def _may_submit(self) -> bool:
        return self.stop.why is None and len(self.executor.running) < self.executor.slots

    def _next(self) -> Trial | None:
        """A trial that was asked before and has no result yet, else a new one, journalled before it is handed out."""
        if self._queue:
            return self._queue.pop(0)
        trial = self.optimizer.ask(self.history)
        if trial is not None:
            self.journal.append({"event": "asked", **trial.to_json()})
            self.history.asked(trial)
        return trial

    def _submit(self, trial: Trial) -> None:
        assignment = Assignment.of(trial, self.history.lineage(trial))
        log = self.run.trial(trial.number).log
        remove_leftovers(log.parent)
        self.executor.submit(Task(number=trial.number, payload=assignment.to_json(), log=log))
        self.observer.asked(trial)

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        take(outcomes, self._tell, what="trial", go_on=f"`nasflow resume {self.run.root}`")

    def _tell(self, outcome: Outcome) -> None:
        result = result_of(outcome)
        self.journal.append({"event": "told", **result.to_json()})
        self.history.told(result)
        if result.error is not None:
            remove_leftovers(self.run.trial(result.trial).root)
        self.observer.told(self.history.trials[result.trial], result, self.history)
        self._checkpoints.add(result.trial)
        if result.score is not None and not self.history.trials[result.trial].is_repeat:
            self._best = heapq.nsmallest(self.keep_best, [*self._best, self.history.searched()[-1]], key=best_first)
        self._drop_checkpoints()
        self._show(len(self.history.results))

    def _show(self, num_results: int) -> None:
        """Write the leaderboard, each time with a twentieth more results: what that costs is linear in all."""
        if num_results >= self._show_at:
            write_leaderboard(self.run, self.history)
            self._show_at = num_results + num_results // 20 + 1

    def _drop_checkpoints(self) -> None:
        """Remove the checkpoints of trials that can neither be gone on from nor be handed over."""
        wanted = self.optimizer.wanted_checkpoints(self.history)
        wanted.update(trial.number for trial, _ in self._best)
        for number in self._checkpoints - wanted:
            remove(self.run.trial(number).checkpoint)
            remove(self.run.trial(number).stem)
        self._checkpoints &= wanted

    def _wind_down(self, why: str) -> None:
        self.observer.stopping(why, len(self.executor.running))
        self._take(self.executor.stop(self.grace_s))
        self._write_derived()

    def _finish(self) -> Ending:
        reason = self.optimizer.reason(self.history) or "nothing is left to ask"
        self.journal.append({"event": "finished", "reason": reason})
        self._write_derived()
        return Ending(finished=True, reason=reason)

    def _write_derived(self) -> None:
        write_leaderboard(self.run, self.history)
        write_hpbandster_files(self.run, self.history)


def take(outcomes: Sequence[Outcome], tell: Callable[[Outcome], None], *, what: str, go_on: str) -> None:
    """Tell of every outcome that ended, well or not; `what` is a trial or a seed, `go_on` what goes on.

    Raises RunDirectoryError, after that, when a worker could not write: no trial is to blame for it.
    """
    unwritten: list[str] = []
    for outcome in outcomes:
        if outcome.failure is not None and outcome.failure.kind == "disk":
            unwritten.append(f"{what} {outcome.number}: {outcome.failure.message}")
        elif not outcome.interrupted:
            tell(outcome)
    if unwritten:
        raise RunDirectoryError(
            f"{'; '.join(unwritten)}; no {what} is to blame, and what could not be written counts as not yet run: mend "
            f"this, then {go_on} goes on"
        )


def result_of(outcome: Outcome) -> Result:
    """What an executor's outcome says of its trial: a score, or an error and never a score."""
    error: tuple[ErrorKind, str] | None = None
    reply: dict[str, Any] = outcome.reply or {}
    if outcome.failure is not None:
        error = (outcome.failure.kind, outcome.failure.message)
    elif not math.isfinite(reply["score"]):
        error = ("nan", f"the score is {reply['score']}")
    return Result(
        trial=outcome.number,
        score=None if error else float(reply["score"]),
        error=error[1] if error else None,
        error_kind=error[0] if error else None,
        epochs=reply.get("epochs", 0),
        metrics={name: value for name, value in reply.get("metrics", {}).items() if math.isfinite(value)},
        notes=tuple(reply.get("notes", ())),
        seconds=round(outcome.seconds, 3),
        started=outcome.started,
        finished=outcome.finished,
    )
