"""Before the winner is named, the best networks are trained again: one high score of many may be luck.

Wraps the engine and begins where that ends. Its trials are asked, journalled and resumed as all others, from scratch,
each from a seed of its own; the engine learns nothing from them. What it asks is a function of the configuration and
the history, so there is no state to save, and a search that is given more brackets confirms again only what is new.
"""

from __future__ import annotations

from collections import Counter

from nasflow_cli.core.config import SearchConfig
from nasflow_cli.core.seeds import Purpose, derived_seed
from nasflow_cli.core.trial import History, Proposal, Standing, Trial, standings
from nasflow_cli.optim.alternating import Alternating


class Confirming:
    """The engine's search, then the repeats of its best."""

    def __init__(self, engine: Alternating, config: SearchConfig, seed: int) -> None:
        self.engine = engine
        self.config = config
        self.seed = seed

    def ask(self, history: History) -> Trial | None:
        """The engine's next trial; once its search is over, a repeat; None when only results can tell, or all is done.

        Raises RunDirectoryError as the engine does.
        """
        trial = self.engine.ask(history)
        if trial is not None or any(not pending.is_repeat for pending in history.pending()):
            return trial
        return self._repeat(history)

    def reason(self, history: History) -> str | None:
        """Why the search is over, or None while it is not."""
        reason = self.engine.reason(history)
        confirmed = len(self._best(history))
        if reason is None or not confirmed:
            return reason
        return f"{reason}, and the best {confirmed if confirmed > 1 else 'one'} confirmed"

    def wanted_checkpoints(self, history: History) -> set[int]:
        """What the engine wants, and the best networks: any may turn out to be the winner, and one leads already."""
        leader = history.leader()
        best = {standing.trial.number for standing in (*self._best(history), *([leader] if leader else []))}
        return self.engine.wanted_checkpoints(history) | best

    def _best(self, history: History) -> list[Standing]:
        """The networks to confirm, best first by the search's own scores; only the largest budget counts."""
        if not self.config.confirm.top:
            return []
        largest = self.config.budget.max
        ranked = standings(pair for pair in history.searched() if pair[0].budget == largest)
        return ranked[: self.config.confirm.top]

    def _repeat(self, history: History) -> Trial | None:
        """The next repeat: each network has its first one before any has its second."""
        best = self._best(history)
        asked = Counter(trial.key for trial in history.trials if trial.is_repeat)
        least = min((asked[standing.trial.key] for standing in best), default=self.config.confirm.repeats)
        if least >= self.config.confirm.repeats:
            return None
        first = next(standing.trial for standing in best if asked[standing.trial.key] == least)
        number = len(history.trials)
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
