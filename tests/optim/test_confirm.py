"""The best networks are trained again before the winner is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from toy_search import TINY, play, search_config
from toy_search import optimizer as engine_of

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.optim.confirm import Confirming
from nasflow_cli.optim.plan import num_planned, planned_repeats

CONFIRM = {"top": 3, "repeats": 2}


def confirming(*, confirm: dict[str, int] = CONFIRM, **changes: Any) -> Confirming:
    """A search of 40 trials whose best are confirmed."""
    config = search_config(confirm=confirm, **changes)
    return Confirming(engine_of(confirm=confirm, **changes), config, 0)


def repeats_of(history: History) -> list[Trial]:
    return [trial for trial in history.trials if trial.is_repeat]


def best_keys(history: History, count: int) -> list[str]:
    """The keys with the highest scores of the search at the largest budget, worked out by hand."""
    full = [trial for trial in history.trials if trial.budget == 9 and not trial.is_repeat]
    scores = {trial.key: history.results[trial.number].score or -99.0 for trial in full}
    return sorted(scores, key=lambda key: -scores[key])[:count]


@pytest.mark.parametrize("workers", [1, 3])
def test_after_the_last_bracket_the_best_are_trained_again_from_scratch_with_seeds_of_their_own(workers: int) -> None:
    engine = confirming()

    history = play(engine, workers=workers)

    repeats = repeats_of(history)
    assert [trial.number for trial in repeats] == list(range(40, 46))
    assert Counter(trial.key for trial in repeats) == dict.fromkeys(best_keys(history, 3), 2)
    assert [trial.key for trial in repeats[:3]] == [trial.key for trial in repeats[3:]] == best_keys(history, 3)
    assert {(trial.phase, trial.proposal.why, trial.parent, trial.budget) for trial in repeats} == {
        ("confirm", "confirm", None, 9)
    }
    assert len({trial.seed for trial in history.trials if trial.parent is None}) == sum(
        trial.parent is None for trial in history.trials
    )
    for trial in repeats:
        first = next(other for other in history.trials if other.key == trial.key and other.budget == 9)
        assert (trial.architecture, trial.slot) == (first.architecture, first.slot)
    assert engine.ask(history) is None
    assert engine.reason(history) == "all brackets are finished, and the best 3 confirmed"


def test_no_repeat_is_asked_while_the_search_awaits_a_result() -> None:
    engine = confirming()
    history = play(engine, until=40)
    waiting = History()
    for event in history.events[:-1]:
        waiting.told(event) if isinstance(event, Result) else waiting.asked(event)

    assert confirming().ask(waiting) is None
    assert confirming().reason(waiting) is None
    assert confirming().ask(history) is not None
    assert confirming().reason(history) is None


def test_several_repeats_run_at_once() -> None:
    engine = confirming()
    history = play(engine, until=40)
    while (trial := engine.ask(history)) is not None:
        history.asked(trial)

    assert len(repeats_of(history)) == 6
    assert engine.reason(history) is None


def test_from_any_cut_the_rest_is_asked_as_it_was() -> None:
    uncut = play(confirming(), workers=3, fails=lambda trial: trial.number % 7 == 4)
    for known in range(len(uncut.events) - 14, len(uncut.events) + 1):
        resumed, history = confirming(), History()
        for position, event in enumerate(uncut.events):
            if isinstance(event, Result):
                history.told(event)
            else:
                assert position < known or resumed.ask(history) == event
                history.asked(event)
        assert resumed.ask(history) is None


def test_a_failed_repeat_is_not_tried_again() -> None:
    history = play(confirming(), fails=lambda trial: trial.is_repeat)

    assert len(repeats_of(history)) == 6
    leader = history.leader()
    assert leader is not None
    assert leader.trial.key == best_keys(history, 1)[0]


@pytest.mark.parametrize(
    ("failing", "top", "reason"),
    [
        (range(40, 46), 3, "all brackets are finished; the best 3 could not be confirmed: every repeat failed (6)"),
        ([40, 41], 1, "all brackets are finished; the best one could not be confirmed: every repeat failed (2)"),
        ([41, 42], 3, "all brackets are finished, and the best 3 confirmed (2 of 6 repeats failed)"),
    ],
)
def test_the_reason_says_which_repeats_failed(failing: Sequence[int], top: int, reason: str) -> None:
    engine = confirming(confirm={"top": top, "repeats": 2})

    history = play(engine, fails=lambda trial: trial.number in failing)

    assert engine.reason(history) == reason
    resumed = confirming(confirm={"top": top, "repeats": 2})
    resumed.ask(history)
    assert resumed.reason(history) == reason


def test_a_network_of_the_best_whose_repeats_all_failed_is_not_called_confirmed() -> None:
    engine = confirming()
    best = best_keys(play(confirming(), until=40), 3)

    history = play(engine, fails=lambda trial: trial.is_repeat and trial.key == best[1])

    assert engine.reason(history) == "all brackets are finished, and 2 of the best 3 confirmed (2 of 6 repeats failed)"


def full_trial(history: History, place: int) -> Trial:
    """The search's own trial of the network that is at this place at the largest budget."""
    key = best_keys(history, 100)[place]
    return next(trial for trial in history.trials if trial.key == key and trial.budget == 9)


def as_repeat(first: Trial, repeat: Trial) -> Trial:
    """A repeat of another network, right in all that belongs to it."""
    names = ("architecture", "key", "turn", "bracket", "rung", "slot")
    return replace(repeat, **{name: getattr(first, name) for name in names})


FORGED: dict[str, Callable[[History, Trial], Trial]] = {
    "another network under the same key": lambda history, repeat: replace(
        repeat, architecture=full_trial(history, 1).architecture
    ),
    "another key for the same network": lambda history, repeat: replace(repeat, key="f" * 16),
    "not the best but the second": lambda history, repeat: as_repeat(full_trial(history, 1), repeat),
    "a network that never reached the largest budget": lambda history, repeat: as_repeat(
        next(trial for trial in history.trials if trial.budget == 1), repeat
    ),
    "another seed": lambda history, repeat: replace(repeat, seed=repeat.seed + 1),
    "another budget": lambda history, repeat: replace(repeat, budget=3),
    "another slot": lambda history, repeat: replace(repeat, slot=(9, 9, 9)),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_journal_whose_repeat_is_of_something_else_is_refused(forged: str) -> None:
    history = play(confirming(), until=40)
    due = confirming().ask(history)
    assert due is not None
    history.asked(FORGED[forged](history, due))

    for resume in (confirming().ask, confirming(confirm={"top": 0}).ask, confirming().wanted_checkpoints):
        with pytest.raises(RunDirectoryError, match="trial 40 of the journal is not one that this configuration"):
            resume(history)


def test_a_journal_with_repeats_is_gone_on_with_when_more_are_wanted() -> None:
    history = play(confirming(confirm={"top": 2, "repeats": 1}))

    play(confirming(confirm={"top": 4, "repeats": 3}), history=history)

    assert [trial.key for trial in repeats_of(history)[:2]] == best_keys(history, 2)
    assert Counter(trial.key for trial in repeats_of(history)) == dict.fromkeys(best_keys(history, 4), 3)


def test_more_brackets_later_go_on_beside_the_repeats_and_confirm_only_what_is_new() -> None:
    short = play(confirming())
    first = {trial.key for trial in repeats_of(short)}

    history = play(confirming(trials=80), history=short)

    plain = play(engine_of(trials=80))
    searched = [trial.key for trial in history.trials if not trial.is_repeat]
    assert len(searched) == len(plain.trials)
    assert searched[:40] == [trial.key for trial in plain.trials[:40]]
    counts = Counter(trial.key for trial in repeats_of(history))
    assert set(counts) == first | set(best_keys(history, 3))
    assert set(counts.values()) == {2}


def test_a_journal_with_repeats_is_gone_on_with_when_they_are_wanted_no_more() -> None:
    history = play(confirming())

    off = confirming(confirm={"top": 0})

    assert off.ask(history) is None
    assert off.reason(history) == "all brackets are finished"


def test_the_checkpoints_of_all_that_may_win_are_kept() -> None:
    engine = confirming()
    history = play(engine)

    kept = {history.trials[number].key for number in engine.wanted_checkpoints(history)}

    assert kept == set(best_keys(history, 3))
    assert not any(history.trials[number].is_repeat for number in engine.wanted_checkpoints(history))


def test_the_leader_keeps_its_checkpoint_when_repeats_are_wanted_no_more() -> None:
    history = play(confirming())
    leader = history.leader()

    assert leader is not None
    assert leader.trial.number in confirming(confirm={"top": 0}).wanted_checkpoints(history)


def test_the_engine_learns_nothing_from_repeats() -> None:
    engine = confirming()
    history = play(engine, until=40)
    engine.ask(history)
    before = {phase: search.num_results for phase, search in engine.engine.searches.items()}

    play(engine, history=history)

    assert len(history.trials) == 46
    assert {phase: search.num_results for phase, search in engine.engine.searches.items()} == before
    assert len(history.searched()) == len(history.scored()) - 6


@pytest.mark.parametrize("top", [0, 3, 1000])
def test_the_plan_counts_what_will_be_run(top: int) -> None:
    confirm = {"top": top, "repeats": 2}
    config = search_config(confirm=confirm)

    history = play(confirming(confirm=confirm))

    assert num_planned(config) == len(history.trials)
    plan = planned_repeats(config)
    assert plan.num_epochs == sum(trial.budget for trial in repeats_of(history))


def test_a_space_with_fewer_members_confirms_those_it_has() -> None:
    config = search_config(confirm={"top": 50, "repeats": 1})
    engine = Confirming(engine_of(TINY, confirm={"top": 50, "repeats": 1}), config, 0)

    history = play(engine)

    full = {trial.key for trial in history.trials if trial.budget == 9 and not trial.is_repeat}
    assert {trial.key for trial in repeats_of(history)} == full
