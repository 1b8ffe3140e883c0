"""A resumed search proposes exactly what the uninterrupted one would have, from wherever it was cut."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_search import OPERATORS_ALONE, RANGED, ROOMY, TINY, Chooser, optimizer, outcome, play

from nasflow_cli.core.trial import History, Result, Trial
from nasflow_cli.optim.alternating import Alternating
from nasflow_cli.optim.plan import num_planned
from nasflow_cli.optim.proposals import Candidate, ExhaustedError

SPACES: dict[str, dict[str, Any]] = {
    **{"roomy": ROOMY, "ranked": ROOMY, "ranged": RANGED, "tiny": TINY, "tiny, ranked": TINY},
    "one half": OPERATORS_ALONE,
}


def engine_of(space: str) -> Alternating:
    """A new engine; in some searches a ranker chooses from whole pools."""
    return optimizer(SPACES[space], ranker=Chooser() if "ranked" in space else None)


def fails(trial: Trial) -> bool:
    """One in seven."""
    return trial.number % 7 == 4


@cache
def whole(space: str, workers: int, order: int) -> History:
    """A search from beginning to end."""
    return play(engine_of(space), workers=workers, order=order, fails=fails)


def cut_after(history: History, num_events: int) -> History:
    """What the journal holds when a run is killed after so many events."""
    beginning = History()
    for event in history.events[:num_events]:
        beginning.told(event) if isinstance(event, Result) else beginning.asked(event)
    return beginning


RUNS = [("roomy", 1, 0), *((space, 3, 0) for space in SPACES)]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(RUNS), st.floats(0, 1))
def test_from_any_cut_the_rest_is_proposed_as_it_was(run: tuple[str, int, int], share: float) -> None:
    space, workers, order = run
    uncut = whole(space, workers, order)
    history = cut_after(uncut, round(share * len(uncut.events)))
    resumed = engine_of(space)

    for event in uncut.events[len(history.events) :]:
        if isinstance(event, Result):
            history.told(event)
        else:
            assert resumed.ask(history) == event
            history.asked(event)

    assert resumed.ask(history) is None
    assert resumed.reason(history) == optimizer_reason(space, uncut)


def exhausted(*_: object) -> Candidate:
    """No draw is new."""
    raise ExhaustedError


def test_that_nothing_is_left_to_propose_is_found_anew_with_the_next_result(monkeypatch: pytest.MonkeyPatch) -> None:
    live, history = engine_of("roomy"), History()
    first = live.ask(history)
    assert first is not None
    history.asked(first)
    with monkeypatch.context() as patched:
        patched.setattr(live.proposer, "one", exhausted)
        assert live.ask(history) is None
        assert live.reason(history) is None
    assert live.ask(history) is None  # the question has not changed
    history.told(outcome(first))

    second = live.ask(history)

    assert second is not None
    assert second == engine_of("roomy").ask(history)
    assert second.parent is None


def test_once_nothing_is_left_and_nothing_runs_the_search_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    live, history = engine_of("roomy"), History()
    first = live.ask(history)
    assert first is not None
    history.asked(first)
    history.told(outcome(first))
    monkeypatch.setattr(live.proposer, "one", exhausted)

    after = play(live, history=history)

    assert {trial.slot for trial in after.trials} == {first.slot}  # it may still be promoted
    assert live.reason(after) == "the space has no more members to propose"


def optimizer_reason(space: str, history: History) -> str | None:
    engine = engine_of(space)
    engine.ask(history)
    return engine.reason(history)


def test_a_journal_on_disk_replays_like_the_values_it_was_written_from() -> None:
    uncut, read = whole("roomy", 3, 0), History()
    for event in uncut.events:
        if isinstance(event, Result):
            read.told(Result.from_json(event.to_json()))
        else:
            read.asked(Trial.from_json(event.to_json()))

    assert optimizer().ask(read) is None


@pytest.mark.parametrize("workers", [1, 3])
def test_more_trials_later_go_on_from_the_same_history(workers: int) -> None:
    short = play(optimizer(trials=30), workers=workers)
    num_events = len(short.events)
    engine = optimizer(trials=60)

    history = play(engine, history=short, workers=workers)

    assert num_events < len(history.events)
    assert len(history.trials) == num_planned(engine.config)
    again = optimizer(trials=60)
    assert again.ask(history) is None
    assert again.reason(history) == "all brackets are finished"


def test_with_one_worker_more_trials_later_are_the_trials_of_a_longer_search() -> None:
    extended = play(optimizer(trials=60), history=play(optimizer(trials=30)))

    assert extended.trials == play(optimizer(trials=60)).trials
