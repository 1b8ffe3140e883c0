"""A resumed search proposes exactly what the uninterrupted one would have, from wherever it was cut."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_search import OPERATORS_ALONE, RANGED, ROOMY, TINY, optimizer, play

from nasflow_cli.core.trial import History, Result, Trial

SPACES: dict[str, dict[str, Any]] = {"roomy": ROOMY, "ranged": RANGED, "tiny": TINY, "one half": OPERATORS_ALONE}


def fails(trial: Trial) -> bool:
    """One in seven."""
    return trial.number % 7 == 4


@cache
def whole(space: str, workers: int, order: int) -> History:
    """A search from beginning to end."""
    return play(optimizer(SPACES[space]), workers=workers, order=order, fails=fails)


def cut_after(history: History, num_events: int) -> History:
    """What the journal holds when a run is killed after so many events."""
    beginning = History()
    for event in history.events[:num_events]:
        beginning.told(event) if isinstance(event, Result) else beginning.asked(event)
    return beginning


RUNS = [("roomy", 1, 0), ("roomy", 3, 0), ("ranged", 3, 0), ("tiny", 3, 0), ("one half", 3, 0)]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(RUNS), st.floats(0, 1))
def test_from_any_cut_the_rest_is_proposed_as_it_was(run: tuple[str, int, int], share: float) -> None:
    space, workers, order = run
    uncut = whole(space, workers, order)
    history = cut_after(uncut, round(share * len(uncut.events)))
    resumed = optimizer(SPACES[space])

    for event in uncut.events[len(history.events) :]:
        if isinstance(event, Result):
            history.told(event)
        else:
            assert resumed.ask(history) == event
            history.asked(event)

    assert resumed.ask(history) is None
    assert resumed.reason(history) == optimizer_reason(space, uncut)


def optimizer_reason(space: str, history: History) -> str | None:
    engine = optimizer(SPACES[space])
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
    assert len(history.trials) == engine.num_planned
    again = optimizer(trials=60)
    assert again.ask(history) is None
    assert again.reason(history) == "all brackets are finished"


def test_with_one_worker_more_trials_later_are_the_trials_of_a_longer_search() -> None:
    extended = play(optimizer(trials=60), history=play(optimizer(trials=30)))

    assert extended.trials == play(optimizer(trials=60)).trials
