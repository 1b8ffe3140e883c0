"""When the predictor may choose, what it says of a pool, and where DGL is imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scored_graphs import SMALL, SPACE, candidates, history_of

import nasflow_cli
from nasflow_cli.core.trial import History
from nasflow_cli.optim.proposals import Outlook
from nasflow_cli.predict import gcn
from nasflow_cli.predict.ranker import GraphRanker

KNOWN = candidates(12, seed=0)
POOL = candidates(6, seed=9)


def test_it_is_cold_while_too_few_results_are_known() -> None:
    ranker, history = GraphRanker(SMALL, 0, SPACE), history_of(KNOWN[:5])

    assert ranker.outlook(history, 5) == Outlook(why="cold", chooses=False, fitted_on=0, correlation=None)
    assert ranker.merits(POOL, 1, history, 5).tolist() == [0.0] * 6
    assert ranker.predicted(POOL[0], 1, history) is None


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], History]:
    """Nine results, and a measured correlation as it is wished for."""

    def history(correlation: float | None) -> History:
        monkeypatch.setattr(gcn, "unseen_correlation", lambda *_: correlation)
        return history_of(KNOWN[:9])

    return history


Measured = Callable[[float | None], History]


def test_it_says_what_it_expects_but_does_not_choose_before_it_was_measured(measured: Measured) -> None:
    ranker, history = GraphRanker(SMALL, 0, SPACE), measured(None)

    assert ranker.outlook(history, 9) == Outlook(why="untrusted", chooses=False, fitted_on=9, correlation=None)
    assert ranker.predicted(POOL[0], 1, history) is not None


def test_it_chooses_while_it_orders_well_what_it_has_not_learned_from(measured: Measured) -> None:
    outlooks = [GraphRanker(SMALL, seed, SPACE).outlook(measured(0.9), 9) for seed in range(4)]

    assert {outlook.correlation for outlook in outlooks} == {0.9}
    assert "predictor" in {outlook.why for outlook in outlooks}
    assert all(outlook.chooses == (outlook.why == "predictor") for outlook in outlooks)


def test_it_does_not_choose_while_it_orders_wrongly_what_it_has_not_learned_from(measured: Measured) -> None:
    outlook = GraphRanker(SMALL, 0, SPACE).outlook(measured(-1.0), 9)

    assert outlook == Outlook(why="untrusted", chooses=False, fitted_on=9, correlation=-1.0)


def test_a_share_of_the_slots_bypasses_it(measured: Measured) -> None:
    ranker = GraphRanker(SMALL.model_copy(update={"bypass": 0.5}), 0, SPACE)
    history = measured(1.0)

    outlooks = [ranker.outlook(history, number) for number in range(9, 49)]

    whys = [outlook.why for outlook in outlooks]
    assert 10 <= whys.count("bypass") <= 30
    assert set(whys) == {"bypass", "predictor"}
    assert all(outlook.chooses == (outlook.why == "predictor") for outlook in outlooks)


@pytest.mark.parametrize(("best", "share"), [(8, 0.1), (0, 0.3)], ids=["better was just found", "stuck"])
def test_it_is_bypassed_three_times_as_often_while_nothing_better_is_found(
    monkeypatch: pytest.MonkeyPatch, best: int, share: float
) -> None:
    monkeypatch.setattr(gcn, "unseen_correlation", lambda *_: 1.0)
    ranker = GraphRanker(SMALL.model_copy(update={"patience": 8, "bypass": 0.1}), 0, SPACE)
    history = history_of(KNOWN[:9], scores=[1.0 if number == best else number / 100 for number in range(9)])

    whys = [ranker.outlook(history, number).why for number in range(9, 409)]

    assert whys.count("bypass") / 400 == pytest.approx(share, abs=0.05)


def said(ranker: GraphRanker, history: History, number: int) -> tuple[list[float], float | None]:
    return ranker.merits(POOL, 1, history, number).tolist(), ranker.predicted(POOL[0], 1, history)


def test_what_it_says_is_the_same_after_a_restart() -> None:
    history = history_of(KNOWN[:9])
    used = GraphRanker(SMALL, 0, SPACE)
    early = history_of(KNOWN[:6])
    used.outlook(early, 6)
    said(used, early, 6)

    assert said(used, history, 9) == said(GraphRanker(SMALL, 0, SPACE), history, 9)
    assert used.outlook(history, 9) == GraphRanker(SMALL, 0, SPACE).outlook(history, 9)


def test_what_it_says_does_not_hang_on_being_asked_for_its_outlook_first() -> None:
    history = history_of(KNOWN[:9])
    asked = GraphRanker(SMALL, 0, SPACE)
    asked.outlook(history, 9)

    assert said(asked, history, 9) == said(GraphRanker(SMALL, 0, SPACE), history, 9)


def test_merits_and_expectations_of_a_single_member_are_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcn, "left_out", lambda graphs, *_: np.full(len(graphs), -1))  # a single member, that learns
    ranker, history = GraphRanker(SMALL.model_copy(update={"ensemble": 1}), 0, SPACE), history_of(KNOWN[:9])

    merits = ranker.merits(POOL, 1, history, 9)

    expected = np.array([ranker.predicted(each, 1, history) for each in POOL], dtype=np.float64)
    assert expected.std() > 1e-4
    assert np.argsort(merits).tolist() == np.argsort(expected).tolist()
    assert set(np.sign(np.diff(np.sort(expected)))) == {1}


def test_only_what_was_trained_is_remembered_however_much_is_ranked() -> None:
    ranker, history = GraphRanker(SMALL, 0, SPACE), history_of(KNOWN[:9])

    for number in range(9, 12):
        ranker.merits(candidates(20, seed=number), 1, history, number)

    assert set(ranker._encoded) == {candidate.key for candidate in KNOWN[:9]}


def test_dgl_is_imported_by_one_module_only() -> None:
    package = Path(nasflow_cli.__file__).parent
    importers = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "dgl" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dgl")
    }

    assert importers == {"_dgl.py"}


def test_dgl_is_imported_where_there_is_no_home(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path / "nowhere")}
    environment.pop("DGLBACKEND", None)  # set by an import in this process; the module has to set it by itself
    program = "from nasflow_cli.predict._dgl import dgl; print(dgl.__version__)"

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "nowhere").exists()
