"""When the predictor's word counts, and that a restart changes neither the word nor when it is learned."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from scored_graphs import SMALL, SPACE, candidates, history_of, merit

from nasflow_cli.core.trial import History, Trial
from nasflow_cli.predict.ranker import GraphRanker, measured_correlation

POOL = candidates(6, seed=99)
KNOWN = candidates(20, seed=1)
TRUE = [merit(candidate.graph) for candidate in KNOWN]


def half_right(count: int) -> list[float]:
    """Expectations whose Kendall tau with distinct scores 0, 1, 2, ... is exactly 1/3 for three trials."""
    return [0.0, 2.0, 1.0][:count]


def test_pairs_of_different_budgets_are_not_compared() -> None:
    """Among equals the order is right; across budgets it is wrong."""
    scores, said = [1.0, 2.0, 3.0, 11.0, 12.0, 13.0], [11.0, 12.0, 13.0, 1.0, 2.0, 3.0]
    history = history_of(KNOWN[:6], budgets=[1, 1, 1, 9, 9, 9], predicted=said, scores=scores)

    assert measured_correlation(history, SMALL) == 1.0


def test_equal_scores_are_not_compared() -> None:
    history = history_of(KNOWN[:6], predicted=[1, 2, 3, 4, 5, 6], scores=[0.5] * 3 + [0.9] * 3)

    assert measured_correlation(history, SMALL.model_copy(update={"min_pairs": 9})) == 1.0
    assert measured_correlation(history, SMALL.model_copy(update={"min_pairs": 10})) is None


def test_a_failed_trial_has_no_part_in_the_correlation() -> None:
    history = history_of(KNOWN[:6], predicted=[9, 1, 2, 3, 4, 8], scores=[None, 1, 2, 3, 4, None])

    assert measured_correlation(history, SMALL) == 1.0


@pytest.mark.parametrize(("threshold", "why"), [(0.3, "predictor"), (0.34, "untrusted")])
def test_it_decides_from_the_stated_threshold_on(threshold: float, why: str) -> None:
    config = SMALL.model_copy(update={"min_correlation": threshold, "min_pairs": 3, "bypass": 0.0})
    said = [None] * 6 + half_right(3)
    history = history_of(KNOWN[:9], predicted=said, scores=[*TRUE[:6], 0.0, 1.0, 2.0])

    judgement = GraphRanker(config, 0, SPACE).judge(POOL, 1, history, 9)

    assert judgement.correlation == pytest.approx(1 / 3)
    assert judgement.why == why


def test_everything_bypasses_it_when_that_is_wished_for() -> None:
    config = SMALL.model_copy(update={"bypass": 1.0})

    judgement = GraphRanker(config, 0, SPACE).judge(POOL, 1, history_of(KNOWN[:9], predicted=TRUE[:9]), 9)

    assert (judgement.chosen, judgement.why) == (None, "bypass")
    assert judgement.predicted is not None  # it is still held to what it expects


def test_slots_are_decided_by_different_members_of_the_ensemble() -> None:
    config = SMALL.model_copy(update={"bypass": 0.0, "ensemble": 4})
    ranker, history = GraphRanker(config, 0, SPACE), history_of(KNOWN[:9], predicted=TRUE[:9])
    pool = candidates(40, seed=5)

    chosen = {ranker.judge(pool, 1, history, number).chosen for number in range(9, 39)}

    assert 1 < len(chosen) <= 4


def test_what_it_expects_is_on_the_scale_of_the_scores_at_that_budget() -> None:
    """Scores at the larger budget are 100 higher."""
    budgets = [1] * 12 + [9] * 6
    scores = [score + (100 if budget == 9 else 0) for score, budget in zip(TRUE, budgets, strict=False)]
    history = history_of(KNOWN[:18], budgets=budgets, scores=scores)
    ranker = GraphRanker(SMALL, 0, SPACE)

    cheap, dear = (ranker.judge(POOL, budget, history, 18).predicted for budget in (1, 9))

    assert cheap is not None
    assert dear is not None
    assert max(cheap) < 50 < min(dear)


def beginning(history: History, num_results: int) -> History:
    """The history up to so many results."""
    part = History()
    for event in history.events:
        if len(part.results) == num_results and isinstance(event, Trial):
            break
        part.asked(event) if isinstance(event, Trial) else part.told(event)
    return part


def test_it_is_fitted_at_numbers_of_results_that_the_history_alone_decides() -> None:
    whole = history_of(KNOWN[:14])
    lasting = GraphRanker(SMALL, 0, SPACE)
    parts = [beginning(whole, count) for count in range(4, 15)]

    judgements = [lasting.judge(POOL, 1, part, len(part.trials)) for part in parts]
    restarted = [GraphRanker(SMALL, 0, SPACE).judge(POOL, 1, part, len(part.trials)) for part in parts]

    assert [judgement.fitted_on for judgement in judgements] == [0, 0, 6, 6, 6, 9, 9, 9, 12, 12, 12]
    assert judgements == restarted


def test_failures_do_not_count_as_results_to_learn_from() -> None:
    history = history_of(KNOWN[:8], scores=[*TRUE[:5], None, None, None])

    assert GraphRanker(SMALL, 0, SPACE).judge(POOL, 1, history, 8).why == "cold"


def test_dgl_is_imported_where_the_home_is_read_only(tmp_path: Path) -> None:
    """A file in the place of `.dgl` refuses a folder there even to the superuser, whom permissions do not bind."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".dgl").write_text("")
    home.chmod(stat.S_IRUSR | stat.S_IXUSR)
    program = "from nasflow_cli.predict._dgl import dgl; print(dgl.__version__)"
    environment = {**{k: v for k, v in os.environ.items() if k != "DGLBACKEND"}, "HOME": str(home)}

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)

    home.chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stderr
    assert (home / ".dgl").read_text() == ""
