"""Many workers on a simulated clock: who works when, if each trial takes the time that its training took.

The loop is that of `nasflow_cli.search`: ask while a worker is free, then wait until results come, tell all that have
come, and ask again. Nothing is trained, nothing sleeps, and asking takes no time on the simulated clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.search import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A trial that a worker ran, from `began` to `ended` (seconds since the search began)."""

    trial: int
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Busyness:
    """The share of worker time that trials fill, until the last trial is handed out and until the search ends.

    `first_idle_s` is when a worker first found nothing to do.
    """

    until_last_handed_out: float
    until_end: float
    first_idle_s: float
    last_handed_out_s: float
    end_s: float


def simulate(optimizer: Optimizer, num_workers: int, run: Callable[[Trial], Result]) -> tuple[History, list[Shift]]:
    """Search to the end. What `run` returns is told when its `seconds` have passed; equal times as they were asked."""
    history, clock = History(), 0.0
    running: list[tuple[float, int]] = []
    results: dict[int, Result] = {}
    shifts: list[Shift] = []
    while True:
        while len(running) < num_workers and (trial := optimizer.ask(history)) is not None:
            history.asked(trial)
            result = results[trial.number] = run(trial)
            shifts.append(Shift(trial=trial.number, began=clock, ended=clock + result.seconds))
            heapq.heappush(running, (clock + result.seconds, trial.number))
        if not running:
            return history, shifts
        clock = running[0][0]
        while running and running[0][0] == clock:
            history.told(results[heapq.heappop(running)[1]])


def busyness(shifts: Sequence[Shift], num_workers: int) -> Busyness:
    """How busy the workers were. Raises ValueError when no time has passed."""
    last, end = max(shift.began for shift in shifts), max(shift.ended for shift in shifts)
    if end <= 0:
        raise ValueError("the trials took no time")
    before = sum(min(shift.ended, last) - shift.began for shift in shifts)
    return Busyness(
        until_last_handed_out=before / (num_workers * last) if last > 0 else 1.0,
        until_end=sum(shift.ended - shift.began for shift in shifts) / (num_workers * end),
        first_idle_s=_first_idle(shifts, num_workers),
        last_handed_out_s=last,
        end_s=end,
    )


def _first_idle(shifts: Sequence[Shift], num_workers: int) -> float:
    """When fewer than `num_workers` trials ran for the first time. What begins as another ends fills its place."""
    changes: dict[float, int] = {}
    for shift in shifts:
        changes[shift.began] = changes.get(shift.began, 0) + 1
        changes[shift.ended] = changes.get(shift.ended, 0) - 1
    running = 0
    for moment in sorted(changes):
        running += changes[moment]
        if running < num_workers:
            return moment
    raise AssertionError("every search ends")
