"""Running brackets: hpbandster's SuccessiveHalving keeps the books, told of our trials and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hpbandster.core.dispatcher import Job
from hpbandster.optimizers.iterations.successivehalving import SuccessiveHalving
from numpy.typing import NDArray

from nasflow_cli.core.trial import Phase, Result, Trial
from nasflow_cli.optim.plan import BracketPlan

SlotId = tuple[int, int, int]


class StableHalving(SuccessiveHalving):  # type: ignore[misc]
    """hpbandster's rule with ties decided: the earlier slot goes on.

    Scores on small validation sets are often equal, and what NumPy's default sort does with equals depends on the
    processor, so that a run could not be resumed on another machine.
    """

    def _advance_to_next_stage(self, config_ids: Any, losses: NDArray[np.float64]) -> NDArray[np.bool_]:
        ranks = np.empty(len(losses), dtype=np.int64)
        ranks[np.argsort(losses, kind="stable")] = np.arange(len(losses))
        return np.asarray(ranks < self.num_configs[self.stage])


class Bracket:
    """A running bracket: hpbandster's SuccessiveHalving, told of our trials and results."""

    def __init__(self, number: int, turn: int, phase: Phase, plan: BracketPlan, propose: Callable[[int], Any]) -> None:
        self.number = number
        self.turn = turn
        self.phase = phase
        self.plan = plan
        self._halving = StableHalving(
            HPB_iter=number,
            num_configs=list(plan.counts),
            budgets=list(plan.budgets),
            config_sampler=lambda budget: (propose(int(budget)), {}),
        )

    @property
    def is_finished(self) -> bool:
        """Whether every rung is over."""
        return bool(self._halving.is_finished)

    def next_run(self) -> tuple[SlotId, Any, int, int] | None:
        """Return (slot, configuration, budget, rung) of the next run, or None while results are awaited."""
        run = self._halving.get_next_run()
        if run is None:
            return None
        slot, configuration, budget = run
        return slot, configuration, int(budget), self.plan.budgets.index(int(budget))

    def close_rung(self) -> Callable[[], None]:
        """Take no more new configurations at the open rung; those that it has can still be promoted.

        Returns what opens it again, as long as nothing was promoted from it.
        """
        halving, stage = self._halving, self._halving.stage
        before = halving.num_configs[stage]
        halving.num_configs[stage] = halving.actual_num_configs[stage]

        def reopen() -> None:
            if halving.stage == stage:
                halving.num_configs[stage] = before

        return reopen

    def told(self, trial: Trial, configuration: Any, result: Result) -> Job:
        """Record a result; a failed trial has none in hpbandster's books. Returns hpbandster's job."""
        job = Job(trial.slot, config=configuration, budget=trial.budget)
        job.timestamps = {"submitted": result.started, "started": result.started, "finished": result.finished}
        job.result = None if result.score is None else {"loss": -result.score, "info": {}}
        job.exception = result.error
        self._halving.register_result(job)
        return job

    def may_promote(self) -> set[SlotId]:
        """Slots whose checkpoints may still be asked for: those that run, and those that await their promotion."""
        last = self.plan.budgets[-1]
        return {
            slot
            for slot, datum in self._halving.data.items()
            if datum.status in ("QUEUED", "RUNNING") or (datum.status == "REVIEW" and datum.budget < last)
        }
