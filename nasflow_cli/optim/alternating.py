"""Two BOHBs take turns (GNAS, section 3.3): while one searches its half, the other half is held at what elites have.

A half with nothing to search takes no turns: all of them are the other's. With `turns: joint` there is one BOHB, of all
parameters. `ask` proposes and never runs, prints or writes. What it proposes is a function of the configuration, the
history and the trial's number. It follows the history event by event, a resumed one exactly as a live one, so there is
no state to save.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hpbandster.core.dispatcher import Job

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.search_config import SearchConfig
from nasflow_cli.core.seeds import Purpose, derived_seed, generator
from nasflow_cli.core.space import SearchSpace, part
from nasflow_cli.core.trial import HALVES, History, Phase, Proposal, Result, Trial
from nasflow_cli.optim.bohb import HalfBOHB
from nasflow_cli.optim.brackets import Bracket, SlotId
from nasflow_cli.optim.fidelity import OneScale
from nasflow_cli.optim.plan import planned_brackets, search_phases, turn_phase
from nasflow_cli.optim.proposals import Candidate, ExhaustedError, Proposer, Ranker


class Alternating:
    """The search engine: brackets of both searches, one after the other, as many open at once as workers need."""

    def __init__(
        self,
        config: SearchConfig,
        seed: int,
        space: SearchSpace,
        is_feasible: Callable[[NetworkGraph], bool],
        ranker: Ranker,
    ) -> None:
        self.config = config
        self.seed = seed
        self.space = space
        self.ranker = ranker
        self._phases = search_phases(config, space.searched)
        models: tuple[Phase, ...] = ("both",) if self._phases == ("both",) else HALVES
        self.searches: dict[Phase, HalfBOHB] = {
            phase: HalfBOHB(space.half(phase), config.density, derived_seed(seed, i, Purpose.PROPOSAL))
            for i, phase in enumerate(models)
        }
        self.proposer = Proposer(config, space, self.searches, is_feasible, seed)
        self._plan = planned_brackets(config.budget, config.turn_brackets, config.trials)
        self._brackets: list[Bracket] = []
        self._open: list[Bracket] = []
        self._architectures: dict[str, Architecture] = {}
        self._scale = OneScale()
        self._latest: dict[SlotId, int] = {}
        self._known: set[str] = set()
        self._best: list[Architecture] | None = None
        self._followed = 0
        self._asked: Trial | None = None
        self._replayed: Trial | None = None
        self._exhausted = False
        self._reopen: list[Callable[[], None]] = []
        self._idle_at = -1
        self._num_repeats = 0
        self._make: Callable[[Bracket, int], Architecture] = _no_slot

    def ask(self, history: History) -> Trial | None:
        """The next trial, or None: the search is over, or only results can tell what is next.

        Asked again without the trial being recorded, it returns the same one. Raises RunDirectoryError when the
        history is not one that this configuration can have produced.
        """
        self._follow(history)
        if self._asked is None and self._idle_at != len(history.events):
            self._asked = self._next(history, len(history.trials))
            if self._asked is None:
                self._wait(history)
            self._reopen.clear()
        return self._asked

    def _wait(self, history: History) -> None:
        """Leave no trace of an answer that the journal will not have: a resumed search is asked other questions.

        That the space is exhausted may change with the next result, by which other halves are held.
        """
        self._idle_at = len(history.events)
        if any(not trial.is_repeat for trial in history.pending()):
            self._exhausted = False
            for reopen in self._reopen:
                reopen()

    def reason(self, history: History) -> str | None:
        """Why the search is over, or None while it is not."""
        if history.pending() or self._asked is not None:
            return None
        return "the space has no more members to propose" if self._exhausted else "all brackets are finished"

    def wanted_checkpoints(self, history: History) -> set[int]:
        """Trials whose checkpoints may still be gone on from."""
        self._follow(history)
        slots = {slot for bracket in self._open for slot in bracket.may_promote()}
        wanted = {self._latest[slot] for slot in slots}
        asked = [] if self._asked is None else [self._asked]
        for trial in history.pending() + asked:
            wanted.add(trial.number)
            if trial.parent is not None:
                wanted.add(trial.parent)
        return wanted

    def _follow(self, history: History) -> None:
        while self._followed < len(history.events):
            event = history.events[self._followed]
            self._followed += 1
            trial = history.trials[event.trial] if isinstance(event, Result) else event
            if trial.is_repeat:  # whoever asked for it proposes nothing by it
                self._num_repeats += event is trial
                continue
            if isinstance(event, Result):
                self._learn(trial, event)
                continue
            if self._asked is None:
                self._replay(history, event)
            elif event != self._asked:
                raise ValueError("another trial was recorded than the one that was asked")
            self._asked = None
            self._known.add(event.key)

    def _replay(self, history: History, recorded: Trial) -> None:
        """Bring the brackets to where they were after they had asked for a recorded trial."""
        self._replayed = recorded
        again = self._next(history, recorded.number)
        self._replayed = None
        self._reopen.clear()
        if again is None or replace(again, proposal=recorded.proposal) != recorded:
            raise foreign(recorded)

    def _learn(self, trial: Trial, result: Result) -> None:
        bracket = self._brackets[trial.bracket]
        bracket.told(trial, trial.architecture, result)
        for phase, search in self.searches.items():
            job = Job(trial.slot, config=part(trial.architecture, phase), budget=trial.budget)
            job.result = None if result.score is None else {"loss": -result.score, "info": {}}
            search.new_result(job)
        self._scale.tell(trial.key, trial.budget, result.score)
        self._architectures[trial.key] = trial.architecture
        self._best = None
        self._open = [each for each in self._open if not each.is_finished]

    def _elites(self) -> list[Architecture]:
        """The best architectures, best first; of equals the earlier."""
        if self._best is None:
            self._best = [self._architectures[str(key)] for key in self._scale.best(self.config.elites)]
        return self._best

    def _next(self, history: History, number: int) -> Trial | None:
        made: list[Candidate] = []
        proposals: list[Proposal] = []

        def new(bracket: Bracket, budget: int) -> Architecture:
            candidate, proposal = self._new(bracket.phase, budget, history, number - self._num_repeats)
            made.append(candidate)
            proposals.append(proposal)
            return candidate.architecture

        self._make = new
        waiting = list(self._open)
        while (bracket := waiting.pop(0) if waiting else self._open_bracket()) is not None:
            run = self._next_run(bracket)
            if run is None:
                continue
            slot, architecture, budget, rung = run
            parent = self._latest.get(slot)
            self._latest[slot] = number
            return Trial(
                number=number,
                architecture=architecture,
                key=made[0].key if parent is None else history.trials[parent].key,
                budget=budget,
                seed=derived_seed(self.seed, number, Purpose.TRAINING)
                if parent is None
                else history.trials[parent].seed,
                phase=bracket.phase,
                turn=bracket.turn,
                bracket=bracket.number,
                rung=rung,
                slot=slot,
                parent=parent,
                proposal=proposals[0] if proposals else Proposal(source="promotion", why="promotion"),
            )
        return None

    def _next_run(self, bracket: Bracket) -> tuple[SlotId, Architecture, int, int] | None:
        """The bracket's next run. Once the space is exhausted it goes on with the configurations that it has."""
        while True:
            try:
                return bracket.next_run()
            except ExhaustedError:
                self._exhausted = True
                self._reopen.append(bracket.close_rung())

    def _open_bracket(self) -> Bracket | None:
        """Open the next bracket of the plan; every open one waits for results, and a worker has nothing to do."""
        if len(self._brackets) == len(self._plan) or self._exhausted:
            return None
        turn, plan = self._plan[len(self._brackets)]
        phase = turn_phase(turn, self._phases)
        bracket = Bracket(len(self._brackets), turn, phase, plan, lambda budget: self._make(bracket, budget))
        self._brackets.append(bracket)
        self._open.append(bracket)
        return bracket

    def _new(self, phase: Phase, budget: int, history: History, number: int) -> tuple[Candidate, Proposal]:
        if self._replayed is not None:
            return self._recorded(self._replayed)
        if self._exhausted:
            raise ExhaustedError
        rng = generator(self.seed, number, Purpose.PROPOSAL)
        outlook = self.ranker.outlook(history, number)
        if outlook.chooses:
            merits = partial(self.ranker.merits, budget=budget, history=history, number=number)
            candidate, ranked = self.proposer.best(phase, self._elites(), self._known, merits, rng)
        else:
            candidate, ranked = self.proposer.one(phase, self._elites(), self._known, rng), 1
        proposal = Proposal(
            source=candidate.source,
            ranked=ranked,
            fitted_on=outlook.fitted_on,
            correlation=outlook.correlation,
            predicted=self.ranker.predicted(candidate, budget, history),
            filtered=outlook.chooses,
            why=outlook.why,
        )
        return candidate, proposal

    def _recorded(self, trial: Trial) -> tuple[Candidate, Proposal]:
        """What was proposed then. A recorded promotion means that no new slot could be filled at that moment."""
        if trial.parent is not None or trial.proposal.source == "promotion":
            raise ExhaustedError
        graph = self.space.graph_of_member(trial.architecture)
        if graph is None:
            raise foreign(trial)
        source = trial.proposal.source
        return Candidate(architecture=trial.architecture, graph=graph, key=graph.key(), source=source), trial.proposal


def foreign(trial: Trial) -> RunDirectoryError:
    """What to raise for a recorded trial that would not have been asked."""
    return RunDirectoryError(
        f"trial {trial.number} of the journal is not one that this configuration proposes; "
        "the journal belongs to another configuration or version of nasflow"
    )


def _no_slot(bracket: Bracket, budget: int) -> Architecture:
    raise AssertionError(f"bracket {bracket.number} proposes only while a trial is asked for")
