"""When the predictor may choose, what it says of a pool, and where DGL is imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

from scored_graphs import SMALL, SPACE, candidates, history_of, merit

import nasflow_cli
from nasflow_cli.core.trial import History
from nasflow_cli.predict.ranker import GraphRanker, measured_correlation

KNOWN = candidates(12, seed=0)
MERITS = [merit(candidate.graph) for candidate in KNOWN]


def test_it_is_cold_while_too_few_results_are_known() -> None:
    ranker = GraphRanker(SMALL, 0, SPACE)

    judgement = ranker.judge(candidates(4, seed=9), 1, history_of(KNOWN[:5]), 5)

    assert (judgement.chosen, judgement.why, judgement.fitted_on) == (None, "cold", 0)


def test_it_says_what_it_expects_but_does_not_choose_before_it_was_measured() -> None:
    ranker = GraphRanker(SMALL, 0, SPACE)

    judgement = ranker.judge(candidates(4, seed=9), 1, history_of(KNOWN[:8]), 8)

    assert (judgement.chosen, judgement.why, judgement.correlation) == (None, "untrusted", None)
    assert judgement.predicted is not None
    assert len(judgement.predicted) == 4


def with_expectations(sign: float) -> History:
    return history_of(KNOWN[:9], predicted=[sign * merit for merit in MERITS[:9]])


def test_it_chooses_once_its_expectations_have_come_true() -> None:
    judgements = [
        GraphRanker(SMALL, seed, SPACE).judge(candidates(6, seed=9), 1, with_expectations(1.0), 9) for seed in range(4)
    ]

    assert {judgement.correlation for judgement in judgements} == {1.0}
    assert "predictor" in {judgement.why for judgement in judgements}
    assert all((judgement.chosen is not None) == (judgement.why == "predictor") for judgement in judgements)


def test_it_does_not_choose_while_its_expectations_are_wrong() -> None:
    judgement = GraphRanker(SMALL, 0, SPACE).judge(candidates(6, seed=9), 1, with_expectations(-1.0), 9)

    assert (judgement.chosen, judgement.why, judgement.correlation) == (None, "untrusted", -1.0)


def test_a_share_of_the_slots_bypasses_it() -> None:
    ranker = GraphRanker(SMALL.model_copy(update={"bypass": 0.5}), 0, SPACE)
    history, pool = with_expectations(1.0), candidates(6, seed=9)

    whys = [ranker.judge(pool, 1, history, number).why for number in range(9, 49)]

    assert 10 <= whys.count("bypass") <= 30
    assert set(whys) == {"bypass", "predictor"}


def test_its_judgement_is_the_same_after_a_restart() -> None:
    history, pool = with_expectations(1.0), candidates(6, seed=9)
    used = GraphRanker(SMALL, 0, SPACE)
    early = history_of(KNOWN[:6])
    used.judge(pool, 1, early, 6)

    assert used.judge(pool, 1, history, 9) == GraphRanker(SMALL, 0, SPACE).judge(pool, 1, history, 9)


def test_only_what_was_expected_before_counts_for_the_correlation() -> None:
    said = [None] * 5 + MERITS[5:]

    assert measured_correlation(history_of(KNOWN), SMALL) is None
    assert measured_correlation(history_of(KNOWN, predicted=said), SMALL) == 1.0


def test_only_the_latest_expectations_count_for_the_correlation() -> None:
    said = [-merit for merit in MERITS[:6]] + MERITS[6:]

    windowed = SMALL.model_copy(update={"window": 6})

    assert measured_correlation(history_of(KNOWN, predicted=said), windowed) == 1.0


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
