"""A running bracket: who is promoted, what a crash does, what may still be gone on from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from toy_search import bare_trial

from nasflow_cli.core.trial import Result
from nasflow_cli.optim.brackets import Bracket, SlotId
from nasflow_cli.optim.plan import BracketPlan

PLAN = BracketPlan(counts=(9, 3, 1), budgets=(2, 6, 18))


class Table:
    """A bracket over the configurations 0, 1, 2, ... in the order in which it asks for them."""

    def __init__(self, plan: BracketPlan = PLAN) -> None:
        fresh = itertools.count()
        self.asked_at: list[int] = []
        self.bracket = Bracket(4, 0, "structure", plan, lambda budget: self.asked_at.append(budget) or next(fresh))
        self.number = itertools.count()

    def run(self) -> tuple[SlotId, int, int, int] | None:
        return self.bracket.next_run()

    def tell(self, run: tuple[SlotId, int, int, int], score: float | None) -> None:
        slot, configuration, budget, _ = run
        error = {} if score is not None else {"error": "boom", "error_kind": "exception"}
        number = next(self.number)
        result = Result(trial=number, score=score, **error)
        self.bracket.told(bare_trial(number, slot, budget), configuration, result)

    def rung(self, scores: dict[int, float | None]) -> list[tuple[SlotId, int, int, int]]:
        """Run the open rung to its end with these scores; returns its runs."""
        runs = []
        for _ in range(len(scores)):
            run = self.run()
            assert run is not None
            runs.append(run)
        for run in runs:
            self.tell(run, scores[run[1]])
        return runs


@pytest.mark.parametrize("seed", range(5))
def test_exactly_the_best_are_promoted_at_every_rung(seed: int) -> None:
    table = Table()
    scores = dict(enumerate(np.random.default_rng(seed).permutation(9).astype(float).tolist()))
    best = sorted(scores, key=lambda name: -scores[name])

    first = table.rung(scores)
    second = table.rung({name: scores[name] for name in best[:3]})
    third = table.rung({name: scores[name] for name in best[:1]})

    assert [(len(runs), runs[0][2], runs[0][3]) for runs in (first, second, third)] == [
        (9, 2, 0),
        (3, 6, 1),
        (1, 18, 2),
    ]
    assert {run[1] for run in second} == set(best[:3])
    assert table.run() is None
    assert table.bracket.is_finished


def test_a_promoted_configuration_keeps_its_slot() -> None:
    table = Table()
    first = table.rung({name: float(name) for name in range(9)})
    slots = {run[1]: run[0] for run in first}

    second = table.rung({6: 0.0, 7: 0.0, 8: 0.0})

    assert all(run[0] == slots[run[1]] for run in second)
    assert slots[8] == (4, 0, 8)


def test_a_crashed_configuration_is_never_promoted_and_its_place_is_filled_anew() -> None:
    table = Table()
    table.rung({**dict.fromkeys(range(7), None), 7: 0.1, 8: 0.2})

    second = [table.run() for _ in range(3)]

    assert [run[1] for run in second if run] == [7, 8, 9]
    assert second[2] == ((4, 1, 2), 9, 6, 1)
    assert table.asked_at == [2] * 9 + [6]


def test_a_bracket_whose_configurations_all_crash_still_runs_every_place() -> None:
    table = Table()

    rungs = [table.rung(dict.fromkeys(names)) for names in (range(9), range(9, 12), range(12, 13))]

    assert [len(runs) for runs in rungs] == [9, 3, 1]
    assert table.run() is None
    assert table.bracket.is_finished


def test_nothing_is_promoted_while_a_run_of_the_rung_is_out() -> None:
    table = Table()
    runs = [run for _ in range(9) if (run := table.run())]
    for run in runs[:8]:
        table.tell(run, float(run[1]))

    assert table.run() is None
    assert not table.bracket.is_finished


def test_of_equal_scores_the_earliest_go_on() -> None:
    """NumPy's default sort leaves these ties in another order."""
    table = Table(BracketPlan(counts=(81, 27), budgets=(1, 3)))
    scores = {i: float(i * 7 % 5 % 3) for i in range(81)}
    table.rung(scores)

    promoted = [run[1] for _ in range(27) if (run := table.run())]

    best = [i for i in range(81) if scores[i] == 2.0]
    middle = [i for i in range(81) if scores[i] == 1.0]
    assert promoted == sorted(best + middle[: 27 - len(best)])
    assert 0 < len(best) < 27 < len(best) + len(middle)


def test_only_slots_that_can_go_on_keep_their_checkpoints() -> None:
    table = Table()
    runs = [run for _ in range(9) if (run := table.run())]
    for run in runs[:8]:
        table.tell(run, None if run[1] == 0 else float(run[1]))

    waiting = table.bracket.may_promote()
    table.tell(runs[8], 8.0)
    table.run()
    after = table.bracket.may_promote()

    assert waiting == {(4, 0, i) for i in range(1, 9)}
    assert after == {(4, 0, 6), (4, 0, 7), (4, 0, 8)}


def test_a_closed_rung_promotes_what_it_has() -> None:
    table = Table()
    runs = [run for _ in range(4) if (run := table.run())]
    table.bracket.close_rung()
    for run in runs:
        table.tell(run, float(run[1]))

    second = table.rung({1: 1.0, 2: 2.0, 3: 3.0})

    assert {run[1] for run in second} == {1, 2, 3}
    assert len(table.asked_at) == 4


def test_what_has_run_at_the_largest_budget_cannot_be_gone_on_from() -> None:
    table = Table(BracketPlan(counts=(3,), budgets=(9,)))
    runs = [run for _ in range(3) if (run := table.run())]

    table.tell(runs[0], 1.0)

    assert table.bracket.may_promote() == {(4, 0, 1), (4, 0, 2)}
