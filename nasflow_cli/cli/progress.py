"""Shows a search as it goes, on stderr: a live table on a terminal, off it one plain line an event."""

from __future__ import annotations

import sys
from collections import deque
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nasflow_cli.cli.output import say, to_a_person
from nasflow_cli.cli.text import count, duration, network
from nasflow_cli.core.counted import counted
from nasflow_cli.core.trial import History, Result, Trial


class Progress(Protocol):
    """What the search tells of itself; a context manager."""

    def asked(self, trial: Trial) -> None:
        """A trial was handed out."""
        ...

    def told(self, trial: Trial, result: Result, history: History) -> None:
        """A trial ended."""
        ...

    def stopping(self, why: str, running: int) -> None:
        """The search winds down."""
        ...

    def note(self, line: str) -> None:
        """Anything else that is worth a line."""
        ...

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress(num_planned: int) -> Progress:
    """The right one for where stderr goes."""
    return LiveProgress(num_planned) if sys.stderr.isatty() else PlainProgress(num_planned)


def outcome(trial: Trial, result: Result) -> str:
    """How a trial ended, in a few words."""
    if result.score is None:
        return f"failed: {result.error}"
    return f"score {result.score:.4f}, {count(result.metrics.get('params'))} params"


def choice(trial: Trial) -> str:
    """Why this architecture, in a few words."""
    proposal = trial.proposal
    if trial.parent is not None:
        return f"promoted from trial {trial.parent}"
    if trial.is_repeat:
        return "confirms, from another seed"
    text = proposal.source + (f", 1 of {proposal.ranked}" if proposal.ranked > 1 else "")
    if proposal.why == "predictor":
        return f"{text} by the predictor (tau {proposal.correlation:.2f})"
    if proposal.why == "untrusted":
        measured = "unmeasured" if proposal.correlation is None else f"tau {proposal.correlation:.2f}"
        return f"{text}, predictor not trusted ({measured})"
    return text


class PlainProgress:
    """One line an event, no control characters."""

    def __init__(self, num_planned: int) -> None:
        self.num_planned = num_planned
        self._num_told = 0
        self._turn = -1
        self._is_confirming = False

    def asked(self, trial: Trial) -> None:
        """Say when the turn changes; trials are shown when they end."""
        if trial.is_repeat:
            if not self._is_confirming:
                self.note("confirming: the best networks are trained again, each from other seeds")
            self._is_confirming = True
        elif trial.turn > self._turn:
            self._turn = trial.turn
            self.note(f"turn {trial.turn + 1}: searching {trial.phase}")

    def told(self, trial: Trial, result: Result, history: History) -> None:
        """One line for the trial."""
        self._num_told = len(history.results)
        best = history.leader()
        top = f"best {best.mean:.4f} at {best.trial.budget}" if best else "no score yet"
        self.note(
            f"[{self._num_told:>{len(str(self.num_planned))}}/{self.num_planned}] trial {trial.number} "
            f"{trial.phase} rung {trial.rung} to epoch {trial.budget}: {outcome(trial, result)}, "
            f"{duration(result.seconds)} ({choice(trial)}; {top})"
        )

    def stopping(self, why: str, running: int) -> None:
        """Say why, and how many are waited for."""
        self.note(f"stopping: {why}; waiting for {counted(running, 'running trial')} to checkpoint")

    def note(self, line: str) -> None:
        """Print it."""
        say(line)

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveProgress:
    """The latest trials as a table that is redrawn in place."""

    def __init__(self, num_planned: int) -> None:
        self.num_planned = num_planned
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False)
        self._has_begun = False
        self._rows: deque[tuple[str, ...]] = deque(maxlen=12)
        self._running: dict[int, Trial] = {}
        self._head = "starting workers"

    def asked(self, trial: Trial) -> None:
        """Add it to what runs."""
        self._running[trial.number] = trial
        self._draw()

    def told(self, trial: Trial, result: Result, history: History) -> None:
        """Move it to the table."""
        self._running.pop(trial.number, None)
        best = history.leader()
        top = "no score yet"
        if best:
            top = f"best {best.mean:.4f} (trial {best.trial.number}, {counted(best.trial.budget, 'epoch')})"
        failed = sum(1 for each in history.results.values() if each.score is None)
        self._head = f"{len(history.results)}/{self.num_planned} trials, turn {trial.turn + 1}, {top}" + (
            f", {failed} failed" if failed else ""
        )
        score = "failed" if result.score is None else f"{result.score:.4f}"
        shape = network(trial.architecture.structure, trial.architecture.operators)
        self._rows.append(
            (str(trial.number), trial.phase, str(trial.budget), score, duration(result.seconds), choice(trial), shape)
        )
        self._draw()

    def stopping(self, why: str, running: int) -> None:
        """Say so above the table."""
        self._head = f"stopping: {why}; waiting for {running} to checkpoint"
        self._draw()

    def note(self, line: str) -> None:
        """Print above the table."""
        with to_a_person():
            self._console.print(Text(line))

    def _draw(self) -> None:
        rows = Table(box=None, pad_edge=False, expand=True)
        for name, width in (("trial", 5), ("phase", 10), ("epochs", 6), ("score", 6), ("time", 6)):
            rows.add_column(name, justify="left" if name == "phase" else "right", min_width=width, no_wrap=True)
        for name in ("why", "network"):
            rows.add_column(name, ratio=1, no_wrap=True, overflow="ellipsis")
        for row in self._rows:
            rows.add_row(*row)
        running = ", ".join(f"{trial.number} to epoch {trial.budget}" for trial in self._running.values())
        with to_a_person():
            self._live.update(Group(Text(self._head, style="bold"), rows, Text(f"running: {running or 'nothing'}")))
            self._live.refresh()

    def __enter__(self) -> LiveProgress:
        with to_a_person():
            self._live.start()
            self._has_begun = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_begun:
            with to_a_person():
                self._live.stop()
