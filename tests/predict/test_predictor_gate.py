"""When the predictor's word counts, and that a restart changes neither the word nor when it is learned."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scored_graphs import SMALL, SPACE, candidates, history_of, merit

from nasflow_cli.core.search_config import PredictorConfig
from nasflow_cli.core.trial import History, Trial
from nasflow_cli.optim.proposals import Outlook
from nasflow_cli.predict import gcn
from nasflow_cli.predict.ranker import GraphRanker

POOL = candidates(6, seed=99)
KNOWN = candidates(20, seed=1)
TRUE = [merit(candidate.graph) for candidate in KNOWN]


@pytest.mark.parametrize(("threshold", "why"), [(0.3, "predictor"), (0.34, "untrusted")])
def test_it_decides_from_the_stated_threshold_on(monkeypatch: pytest.MonkeyPatch, threshold: float, why: str) -> None:
    monkeypatch.setattr(gcn, "unseen_correlation", lambda *_: 1 / 3)
    config = SMALL.model_copy(update={"min_correlation": threshold, "bypass": 0.0})

    outlook = GraphRanker(config, 0, SPACE).outlook(history_of(KNOWN[:9]), 9)

    assert outlook.correlation == pytest.approx(1 / 3)
    assert (outlook.why, outlook.chooses) == (why, why == "predictor")


def test_what_can_be_learned_is_trusted_and_noise_is_not() -> None:
    config = PredictorConfig(min_results=6, width=16, steps=100)
    known = candidates(60, seed=1)
    noise = np.random.default_rng(0).random(60).tolist()

    learnable, nothing = (
        GraphRanker(config, 0, SPACE).outlook(history_of(known, scores=scores), 60).correlation
        for scores in ([merit(candidate.graph) for candidate in known], noise)
    )

    assert learnable is not None
    assert nothing is not None
    assert learnable > 0.4 > 0.2 > nothing


def test_everything_bypasses_it_when_that_is_wished_for() -> None:
    ranker = GraphRanker(SMALL.model_copy(update={"bypass": 1.0, "min_correlation": -1.0}), 0, SPACE)
    history = history_of(KNOWN[:9])

    outlook = ranker.outlook(history, 9)

    assert (outlook.chooses, outlook.why) == (False, "bypass")
    assert ranker.predicted(POOL[0], 1, history) is not None  # it is still held to what it expects


def test_slots_are_decided_by_different_members_of_the_ensemble() -> None:
    config = SMALL.model_copy(update={"bypass": 0.0, "ensemble": 4})
    ranker, history = GraphRanker(config, 0, SPACE), history_of(KNOWN[:9])
    pool = candidates(40, seed=5)

    chosen = {int(ranker.merits(pool, 1, history, number).argmax()) for number in range(9, 39)}

    assert 1 < len(chosen) <= 4


def test_what_it_expects_is_on_the_scale_of_the_scores_at_that_budget() -> None:
    """Scores at the larger budget are 100 higher."""
    budgets = [1] * 12 + [9] * 6
    scores = [score + (100 if budget == 9 else 0) for score, budget in zip(TRUE, budgets, strict=False)]
    history = history_of(KNOWN[:18], budgets=budgets, scores=scores)
    ranker = GraphRanker(SMALL, 0, SPACE)

    cheap, dear = ([ranker.predicted(one, budget, history) for one in POOL] for budget in (1, 9))

    assert all(value is not None and value < 50 for value in cheap)
    assert all(value is not None and value > 50 for value in dear)


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

    def said(ranker: GraphRanker, part: History) -> tuple[Outlook, list[float], float | None]:
        number = len(part.trials)
        merits = ranker.merits(POOL, 1, part, number).tolist()
        return ranker.outlook(part, number), merits, ranker.predicted(POOL[0], 1, part)

    judgements = [said(lasting, part) for part in parts]
    restarted = [said(GraphRanker(SMALL, 0, SPACE), part) for part in parts]

    assert [outlook.fitted_on for outlook, *_ in judgements] == [0, 0, 6, 6, 6, 9, 9, 9, 12, 12, 12]
    assert judgements == restarted


@pytest.mark.parametrize(
    ("num_results", "due"),
    [
        *((0, 0), (9, 0), (10, 10), (14, 10), (15, 15), (54, 50), (55, 55), (60, 60), (65, 60), (66, 66)),
        *((100, 94), (103, 103), (971, 884), (972, 972), (10_000, 9535)),
    ],
)
def test_the_default_fits_are_at_these_numbers_of_results(num_results: int, due: int) -> None:
    assert GraphRanker(PredictorConfig(), 0, SPACE)._due(num_results) == due


def test_the_steps_between_fits_grow_by_a_tenth_so_that_a_long_search_has_few() -> None:
    ranker = GraphRanker(PredictorConfig(), 0, SPACE)

    dues = [ranker._due(number) for number in range(5001)]

    fits = sorted(set(dues) - {0})
    assert all(due <= number for number, due in enumerate(dues))
    assert all(ranker._due(due) == due for due in fits)
    assert dues == sorted(dues)
    steps = [after - before for before, after in itertools.pairwise(fits)]
    assert steps == [max(5, before // 10) for before in fits[:-1]]
    assert len(fits) < 70
    assert sum(fits) < 12 * fits[-1]


def test_when_it_is_fitted_hangs_on_neither_the_seed_nor_what_it_was_asked_before() -> None:
    used = GraphRanker(SMALL, 5, SPACE)
    used.outlook(history_of(KNOWN[:14]), 14)

    assert [used._due(number) for number in range(200)] == [
        GraphRanker(SMALL, 0, SPACE)._due(number) for number in range(200)
    ]


def test_failures_do_not_count_as_results_to_learn_from() -> None:
    history = history_of(KNOWN[:8], scores=[*TRUE[:5], None, None, None])

    assert GraphRanker(SMALL, 0, SPACE).outlook(history, 8).why == "cold"


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
