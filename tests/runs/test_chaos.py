"""scripts/chaos.py in a short form: a search with two workers, of which two are killed, and their driver once."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny import write_config

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import chaos

from nasflow_cli import assemble
from nasflow_cli.core.trial import History, Trial
from nasflow_cli.optim.plan import planned_brackets, planned_repeats
from nasflow_cli.store.journal import history_of, read_events

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

STRIKES = (
    chaos.Strike(victim="worker", after=5, delay_s=0.0),
    chaos.Strike(victim="driver", after=5, delay_s=0.0),
    chaos.Strike(victim="worker", after=3, delay_s=0.0),
)


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, chaos.Run, chaos.Record]:
    """The experiment, its run, which came to its end, and what the kills hit."""
    folder = tmp_path_factory.mktemp("besieged")
    config = write_config(
        folder / "tiny.yaml",
        search={"trials": 8, "budget": {"min": 3, "max": 9, "eta": 3}, "confirm": {"top": 2, "repeats": 1}},
        executor={"kind": "local", "workers": 2},
    )
    return config, *chaos.besiege(config, folder, STRIKES, [], lambda _: None)


def test_after_kills_of_workers_and_driver_nothing_is_lost_told_or_paid_twice(
    besieged: tuple[Path, chaos.Run, chaos.Record],
) -> None:
    config, run, record = besieged
    search = assemble.load(config, []).search
    brackets = planned_brackets(search.budget, search.turn_brackets, search.trials)
    planned = sum(plan.num_epochs() for _, plan in brackets) + planned_repeats(search).num_epochs

    assert record.kills == Counter(worker=2, driver=1)
    assert record.hits
    assert chaos.faults(run, record, planned) == []
    assert any(event.get("phase") == "confirm" for event in run.events())


def test_with_several_workers_the_results_in_their_order_give_the_same_proposals(
    besieged: tuple[Path, chaos.Run, chaos.Record],
) -> None:
    config, run, _ = besieged
    whole = history_of(read_events(run.journal), run.journal)
    optimizer = assemble.make_optimizer(assemble.check(assemble.load(config, [])))
    torch.set_num_threads(1)
    history = History()

    for event in whole.events:
        if isinstance(event, Trial):
            assert optimizer.ask(history) == event
            history.asked(event)
        else:
            history.told(event)

    assert optimizer.ask(history) is None
    # Else this would be the search of one worker.
    assert any(isinstance(one, Trial) and isinstance(two, Trial) for one, two in pairwise(whole.events))
