"""Two BOHBs in turns, on a made-up objective: who is promoted, what is never done twice, how it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from toy_search import (
    LOPSIDED,
    OPERATORS_ALONE,
    RANGED,
    STRUCTURE_ALONE,
    TINY,
    Chooser,
    merit,
    optimizer,
    outcome,
    play,
    search_config,
)

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.core.trial import History, Proposal, Trial
from nasflow_cli.optim.alternating import Alternating
from nasflow_cli.optim.plan import hyperband, num_planned
from nasflow_cli.optim.proposals import NoRanker, Outlook, Ranker


class Bold(NoRanker):
    """Lets a whole pool compete for every slot, and takes the first."""

    def outlook(self, history: History, number: int) -> Outlook:
        return Outlook(why="predictor", chooses=True)


EVERY_FIFTH = {"fails": lambda trial: trial.number % 5 == 2}
SCENES: dict[str, dict[str, Any]] = {
    "one worker": {},
    "three": {"workers": 3},
    "failures": EVERY_FIFTH,
    "both": {"workers": 4, **EVERY_FIFTH},
    "ranked": {"workers": 3, **EVERY_FIFTH},
}


@cache
def played(scene: str) -> tuple[Alternating, History]:
    """A search that is over, and the engine that it was played with. Not to be changed."""
    engine = optimizer(ranker=Chooser() if scene == "ranked" else None)
    return engine, play(engine, **SCENES[scene])


@pytest.mark.parametrize("scene", SCENES)
def test_a_search_runs_its_whole_plan_whatever_happens(scene: str) -> None:
    engine, history = played(scene)

    assert len(history.trials) == num_planned(engine.config) == 40
    assert not history.pending()
    assert engine.ask(history) is None
    assert engine.reason(history) == "all brackets are finished"
    rungs = Counter((trial.turn, trial.rung, trial.budget) for trial in history.trials)
    assert rungs == {
        (turn, rung, budget): count
        for turn, plan in enumerate([hyperband(search_config().budget)[i] for i in (0, 0, 1, 1, 2, 2)])
        for rung, (count, budget) in enumerate(zip(plan.counts, plan.budgets, strict=True))
    }


def test_turns_alternate_between_structure_and_operators() -> None:
    _, history = played("one worker")

    assert [trial.turn for trial in history.trials] == sorted(trial.turn for trial in history.trials)
    assert {trial.turn: trial.phase for trial in history.trials} == {
        turn: "operators" if turn % 2 else "structure" for turn in range(6)
    }


@pytest.mark.parametrize(("space", "phase"), [(STRUCTURE_ALONE, "structure"), (OPERATORS_ALONE, "operators")])
def test_a_half_with_nothing_to_search_takes_no_turns(space: dict[str, Any], phase: str) -> None:
    engine = optimizer(space, ranker=Chooser())

    history = play(engine)

    assert len(history.trials) == num_planned(engine.config) == 40
    assert [trial.phase for trial in history.trials] == [phase] * 40
    assert sorted({trial.turn for trial in history.trials}) == list(range(6))
    assert {trial.proposal.source for trial in history.trials} == {"random", "density", "edit", "promotion"}
    halves = [(trial.architecture.structure, trial.architecture.operators) for trial in history.trials]
    assert not any(half[phase == "structure"] for half in halves)


def test_a_joint_search_is_one_search_of_both_halves() -> None:
    engine = optimizer(turns="joint")

    history = play(engine)

    assert {trial.phase for trial in history.trials} == {"both"}
    assert len(history.trials) == num_planned(engine.config) == 40
    assert list(engine.searches) == ["both"]
    assert engine.searches["both"].num_results == len({trial.slot for trial in history.trials})
    assert {trial.proposal.source for trial in history.trials} >= {"random", "density", "promotion"}


def test_a_joint_search_goes_on_as_if_it_had_never_stopped() -> None:
    begun = play(optimizer(turns="joint"), until=21)

    resumed = play(optimizer(turns="joint"), history=begun)

    assert resumed.trials == play(optimizer(turns="joint")).trials


def test_without_elites_nothing_is_held_and_nothing_edited() -> None:
    history = play(optimizer(elites=0, ranker=Bold()))

    assert "edit" not in {trial.proposal.source for trial in history.trials}
    assert "edit" in {trial.proposal.source for trial in play(optimizer(ranker=Bold())).trials}


@pytest.mark.parametrize("scene", SCENES)
def test_a_promoted_trial_goes_on_from_its_parent(scene: str) -> None:
    _, history = played(scene)

    promoted = [trial for trial in history.trials if trial.proposal.source == "promotion"]
    assert promoted
    for trial in history.trials:
        assert (trial.parent is not None) == (trial.proposal.source == "promotion")
    for trial in promoted:
        assert trial.parent is not None
        parent = history.trials[trial.parent]
        assert (trial.key, trial.seed, trial.architecture, trial.slot) == (
            parent.key,
            parent.seed,
            parent.architecture,
            parent.slot,
        )
        assert trial.budget > parent.budget
        assert history.results[parent.number].score is not None


def test_the_best_of_a_rung_are_the_ones_that_go_on() -> None:
    _, history = played("one worker")

    rung = [trial for trial in history.trials if (trial.turn, trial.rung) == (0, 0)]
    best = sorted(rung, key=lambda trial: -(history.results[trial.number].score or 0.0))[:3]

    parents = {trial.parent for trial in history.trials if (trial.turn, trial.rung) == (0, 1)}
    assert parents == {trial.number for trial in best}


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_trained_twice_at_the_same_budget(scene: str) -> None:
    _, history = played(scene)

    assert max(Counter((trial.key, trial.budget) for trial in history.trials).values()) == 1
    fresh = [trial for trial in history.trials if trial.parent is None]
    assert max(Counter(trial.key for trial in fresh).values()) == 1
    assert max(Counter(trial.seed for trial in fresh).values()) == 1


def test_asking_twice_gives_the_same_trial() -> None:
    engine = optimizer()
    history = play(engine, until=12)

    first, again = engine.ask(history), engine.ask(history)

    assert first is not None
    assert first == again == optimizer_after(history).ask(history)


def optimizer_after(history: History) -> Any:
    """A new engine, as a resumed run has."""
    engine = optimizer()
    engine.wanted_checkpoints(history)
    return engine


def test_other_seeds_search_elsewhere() -> None:
    first, other = play(optimizer(seed=1), until=9), play(optimizer(seed=2), until=9)

    assert not {trial.key for trial in first.trials} <= {trial.key for trial in other.trials}
    assert not {trial.seed for trial in first.trials} & {trial.seed for trial in other.trials}


def test_workers_are_kept_busy_by_the_next_bracket_while_a_rung_waits() -> None:
    engine, history = optimizer(), History()
    for _ in range(20):
        trial = engine.ask(history)
        assert trial is not None
        history.asked(trial)

    assert [trial.turn for trial in history.trials] == [0] * 9 + [1] * 9 + [2] * 2
    assert {trial.rung for trial in history.trials} == {0}


def test_an_earlier_bracket_is_gone_on_with_before_a_later_one() -> None:
    engine, history = optimizer(), History()
    for _ in range(10):
        trial = engine.ask(history)
        assert trial is not None
        history.asked(trial)
    for trial in history.trials[:9]:
        history.told(outcome(trial))

    following = engine.ask(history)

    assert following is not None
    assert (following.turn, following.rung) == (0, 1)


def test_nothing_can_be_said_while_results_are_awaited() -> None:
    engine = optimizer(trials=13)
    history = History()
    while (trial := engine.ask(history)) is not None:
        history.asked(trial)

    assert len(history.trials) == 9
    assert engine.reason(history) is None


def test_a_search_whose_trials_all_fail_ends() -> None:
    engine = optimizer()

    history = play(engine, fails=lambda trial: True)

    assert len(history.trials) == 40
    assert all(trial.parent is None for trial in history.trials)
    assert engine.reason(history) == "all brackets are finished"


def test_a_search_learns() -> None:
    """Means over three searches; a search that is told nothing finds what random draws find."""
    late, early = [], []
    for seed in range(3):
        history = play(optimizer(seed=seed, trials=80, random_fraction=0.1))
        fresh = [merit(trial.architecture) for trial in history.trials if trial.parent is None]
        early += fresh[:9]
        late += fresh[-12:]

    assert sum(late) / len(late) > sum(early) / len(early) + 2.0


@pytest.mark.parametrize("workers", [1, 3])
def test_every_parent_that_can_still_be_promoted_keeps_its_checkpoint(workers: int) -> None:
    engine, history = optimizer(), History()
    kept: list[set[int]] = []
    whole = play(optimizer(), workers=workers, **EVERY_FIFTH)
    for event in whole.events:
        if isinstance(event, Trial):
            assert engine.ask(history) == event
            history.asked(event)
        else:
            history.told(event)
        kept.append(engine.wanted_checkpoints(history))

    number_of_event = {event.number: i for i, event in enumerate(whole.events) if isinstance(event, Trial)}
    for trial in whole.trials:
        if trial.parent is not None:
            born, needed = number_of_event[trial.parent], number_of_event[trial.number]
            assert all(trial.parent in wanted for wanted in kept[born:needed])
    assert kept[-1] == set()
    assert max(len(wanted) for wanted in kept) < 9 * 3


def test_a_loser_is_let_go_of_once_its_rung_is_decided() -> None:
    engine = optimizer()
    history = play(engine, until=9)
    best = sorted(history.trials, key=lambda trial: -(history.results[trial.number].score or 0.0))[:3]
    promoted = engine.ask(history)
    assert promoted is not None

    wanted = engine.wanted_checkpoints(history)
    history.asked(promoted)
    wanted_while_it_runs = engine.wanted_checkpoints(history)

    assert wanted == wanted_while_it_runs == {trial.number for trial in best} | {promoted.number}


@pytest.mark.parametrize("ranker", [NoRanker(), Chooser()])
def test_a_small_space_ends_when_everything_is_known_and_still_promotes_the_best(ranker: Ranker) -> None:
    engine = optimizer(TINY, ranker=ranker)

    history = play(engine)

    assert engine.ask(history) is None
    assert engine.reason(history) == "the space has no more members to propose"
    assert len({trial.key for trial in history.trials}) == 6
    assert [trial.budget for trial in history.trials] == [1] * 6 + [3] * 3 + [9]


@pytest.mark.parametrize("workers", [2, 5])
def test_a_small_space_ends_with_several_workers_and_failures(workers: int) -> None:
    engine = optimizer(TINY)

    history = play(engine, workers=workers, fails=lambda trial: trial.number in (1, 2, 4, 5))

    assert engine.reason(history) == "the space has no more members to propose"
    assert not history.pending()
    assert {trial.budget for trial in history.trials if trial.parent is not None} == {3, 9}


def test_two_structures_do_not_end_a_search_of_many_operators() -> None:
    engine = optimizer(LOPSIDED)

    history = play(engine)

    assert len(history.trials) == num_planned(engine.config)
    assert engine.reason(history) == "all brackets are finished"


def test_a_half_that_is_made_of_ranges_is_searched() -> None:
    engine = optimizer(RANGED)

    history = play(engine, workers=2)

    assert len(history.trials) == 40
    assert len({trial.architecture.structure["stem.width"] for trial in history.trials}) > 10


def other_key(trial: Trial) -> Trial:
    return replace(trial, key="0" * 16)


def other_seed(trial: Trial) -> Trial:
    return replace(trial, seed=trial.seed + 1)


def other_slot(trial: Trial) -> Trial:
    return replace(trial, slot=(trial.slot[0], trial.slot[1], trial.slot[2] + 1))


def other_budget(trial: Trial) -> Trial:
    return replace(trial, budget=trial.budget + 1)


def other_parent(trial: Trial) -> Trial:
    return replace(trial, parent=None if trial.parent is not None else 0)


def other_space(trial: Trial) -> Trial:
    lacking = {name: value for name, value in trial.architecture.structure.items() if name != "stem.width"}
    return replace(trial, architecture=replace(trial.architecture, structure=lacking))


@pytest.mark.parametrize("change", [other_key, other_seed, other_slot, other_budget, other_parent, other_space])
@pytest.mark.parametrize("number", [3, 10])
def test_a_history_that_this_configuration_cannot_have_produced_is_refused(change: Any, number: int) -> None:
    whole, foreign = play(optimizer(), until=12), History()
    for event in whole.events:
        if isinstance(event, Trial):
            foreign.asked(change(event) if event.number == number else event)
        else:
            foreign.told(event)

    with pytest.raises(RunDirectoryError, match=rf"trial {number} of the journal is not one that this configuration"):
        optimizer().ask(foreign)


def test_a_history_of_another_seed_is_refused() -> None:
    history = play(optimizer(seed=1), until=5)

    with pytest.raises(RunDirectoryError, match="trial 0 of the journal"):
        optimizer(seed=2).ask(history)


def test_recording_another_trial_than_the_one_asked_is_a_mistake_of_the_caller() -> None:
    engine, history = optimizer(), History()
    trial = engine.ask(history)
    assert trial is not None
    history.asked(other_seed(trial))

    with pytest.raises(ValueError, match="another trial was recorded"):
        engine.ask(history)


def test_why_a_trial_was_proposed_is_written_down() -> None:
    _, history = played("one worker")

    fresh = [trial for trial in history.trials if trial.parent is None]
    assert {trial.proposal.why for trial in fresh} == {"off"}
    assert {trial.proposal.source for trial in fresh} == {"random", "density", "edit"}
    assert all(trial.proposal.ranked == 1 and not trial.proposal.filtered for trial in fresh)
    assert {trial.proposal.why for trial in history.trials if trial.parent is not None} == {"promotion"}


def test_a_whole_pool_is_made_only_where_the_ranker_chooses() -> None:
    ranker = Chooser()

    history = play(optimizer(ranker=ranker))

    fresh = [trial for trial in history.trials if trial.parent is None]
    assert ranker.shown.keys() == {trial.number for trial in fresh if trial.number % 3}
    ranked = {trial.number: trial.proposal.ranked for trial in fresh}
    assert {size for number, size in ranked.items() if number % 3 == 0} == {1}
    assert {number: len(pool) for number, (pool, _) in ranker.shown.items()} == {
        number: size for number, size in ranked.items() if number % 3
    }
    sources = {candidate.source for pool, _ in ranker.shown.values() for candidate in pool}
    assert sources == {"density", "random", "edit"}


def test_what_the_ranker_takes_is_trained_and_what_it_said_is_written_down() -> None:
    ranker = Chooser()

    history = play(optimizer(ranker=ranker))

    for trial in history.trials:
        if trial.parent is not None:
            continue
        chooses = trial.number % 3 != 0
        pool, budget = ranker.shown[trial.number] if chooses else ([], trial.budget)
        if chooses:
            assert (trial.key, trial.architecture) == (pool[-1].key, pool[-1].architecture)
            assert trial.proposal.source == pool[-1].source
        assert trial.budget == budget
        assert trial.proposal == Proposal(
            source=trial.proposal.source,
            ranked=len(pool) if chooses else 1,
            fitted_on=8 if chooses else 7,
            correlation=0.5,
            predicted=float(int(trial.key[:4], 16)),
            filtered=chooses,
            why="predictor" if chooses else "bypass",
        )
