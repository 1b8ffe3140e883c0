"""Before the winner is named, the best networks are trained again: one high score of many may be luck.

Wraps the engine and begins where that ends. Its trials are asked, journalled and resumed as all others, from scratch,
each from a seed of its own; the engine learns nothing from them. It follows the history event by event, as the engine
does, so there is no state to save; a search that is given more brackets confirms again only what is new. Refuses a
recorded repeat that no choice of `search.confirm` would have asked for then.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import replace

from nasflow_cli.core.search_config import SearchConfig
from nasflow_cli.core.seeds import Purpose, derived_seed
from nasflow_cli.core.trial import History, Proposal, Result, Trial, best_first
from nasflow_cli.optim.alternating import Alternating, foreign


class Confirming:
    """The engine's search, then the repeats of its best."""

    def __init__(self, engine: Alternating, config: SearchConfig, seed: int) -> None:
        self.engine = engine
        self.config = config
        self.seed = seed
        self._followed = 0
        self._ranked: list[tuple[Trial, Result]] = []
        self._repeats: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def ask(self, history: History) -> Trial | None:
        """The engine's next trial; once its search is over, a repeat; None when only results can tell, or all is done.

        Raises RunDirectoryError as the engine does.
        """
        trial = self.engine.ask(history)
        self._follow(history)
        if trial is not None or any(not pending.is_repeat for pending in history.pending()):
            return trial
        return self._next(len(history.trials))

    def reason(self, history: History) -> str | None:
        """Why the search is over, or None while it is not. Says how many repeats failed, where some did."""
        self._follow(history)
        reason, best = self.engine.reason(history), self._best()
        if reason is None or not best:
            return reason
        if self._next(len(history.trials)) is not None:
            return None
        named = f"the best {len(best) if len(best) > 1 else 'one'}"
        num_repeats, num_failed = (sum(count[trial.key] for trial in best) for count in (self._repeats, self._failed))
        if num_failed == num_repeats:
            return f"{reason}; {named} could not be confirmed: every repeat failed ({num_failed})"
        if not num_failed:
            return f"{reason}, and {named} confirmed"
        num_confirmed = sum(self._repeats[trial.key] > self._failed[trial.key] for trial in best)
        some = f"{num_confirmed} of " if num_confirmed < len(best) else ""
        return f"{reason}, and {some}{named} confirmed ({num_failed} of {num_repeats} repeats failed)"

    def wanted_checkpoints(self, history: History) -> set[int]:
        """What the engine wants, and the best networks: any may turn out to be the winner, and one leads already."""
        wanted = self.engine.wanted_checkpoints(history)
        self._follow(history)
        leader = history.leader()
        return wanted | {trial.number for trial in (*self._best(), *([leader.trial] if leader else []))}

    def _follow(self, history: History) -> None:
        """Rank what the search has scored at the largest budget, and count the repeats."""
        while self._followed < len(history.events):
            event = history.events[self._followed]
            self._followed += 1
            if isinstance(event, Result):
                self._learn(history.trials[event.trial], event)
            elif event.is_repeat:
                self._check(event)
                self._repeats[event.key] += 1

    def _learn(self, trial: Trial, result: Result) -> None:
        if trial.is_repeat:
            self._failed[trial.key] += result.score is None
        elif result.score is not None and trial.budget == self.config.budget.max:
            insort(self._ranked, (trial, result), key=best_first)

    def _check(self, recorded: Trial) -> None:
        """Raise RunDirectoryError for a repeat of something else than the best that had the fewest.

        `search.confirm` may have been another then, which decides how many of the best these are.
        """
        ranked = [trial for trial, _ in self._ranked]
        place = next((place for place, trial in enumerate(ranked) if trial.key == recorded.key), -1)
        due = self._repeat(ranked[: place + 1], recorded.number)
        if due is None or replace(due, proposal=recorded.proposal) != recorded:
            raise foreign(recorded)

    def _best(self) -> list[Trial]:
        """The networks to confirm, best first by the search's own scores; only the largest budget counts."""
        return [trial for trial, _ in self._ranked[: self.config.confirm.top]]

    def _next(self, number: int) -> Trial | None:
        """The repeat that is due, if one is."""
        best, wanted = self._best(), self.config.confirm.repeats
        fewest = min((self._repeats[trial.key] for trial in best), default=wanted)
        return self._repeat(best, number) if fewest < wanted else None

    def _repeat(self, best: list[Trial], number: int) -> Trial | None:
        """One more repeat of these: each has its first one before any has its second. None when there are none."""
        first = min(best, key=lambda trial: self._repeats[trial.key], default=None)
        if first is None:
            return None
        return Trial(
            number=number,
            architecture=first.architecture,
            key=first.key,
            budget=first.budget,
            seed=derived_seed(self.seed, number, Purpose.TRAINING),
            phase="confirm",
            turn=first.turn,
            bracket=first.bracket,
            rung=first.rung,
            slot=first.slot,
            parent=None,
            proposal=Proposal(source="confirm", why="confirm"),
        )
