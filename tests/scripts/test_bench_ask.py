"""What a proposal costs, measured on a space of a few members: what is asked, what is timed, what is written."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import bench_ask
import pytest
from asking import sides
from asking.sides import Row, Setting, Timed
from bench_ask import growth, picture, ratios, summary
from searching.peers import quietly
from small_runs import measured, written

from nasflow_cli.optim import proposals

EXPERIMENT = """\
name: small
evaluator:
  kind: table
  path: results.csv
  architecture:
    stages.0.width: width
    body.nodes: nodes
    body.1.operation: first
    body.2.operation: second
  absent: nothing
  scores: {1: early, 3: late}
space:
  stem: {width: 8}
  cells:
    body: {nodes: [1, 2], edges: chain, operations: [conv3x3, conv1x1, avg_pool3x3]}
  stages:
    - {cell: body, width: [8, 16, 24, 32, 40, 48]}
search:
  trials: 10
  budget: {min: 1, max: 3}
  pool: 8
  predictor: {steps: 4, ensemble: 2, width: 4, layers: 1}
executor: {kind: inline}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """72 members, one row."""
    return written(tmp_path, EXPERIMENT, ["width,nodes,first,second,early,late", "8,1,conv3x3,nothing,1,2"])


def setting(config: Path, *results: int) -> Setting:
    return Setting(config=config, overrides=(), results=results, asks=3)


def ticking() -> Any:
    """A clock on which every look takes a second."""
    return lambda seconds=count(): float(next(seconds))  # noqa: B008


def run(config: Path, *options: str) -> tuple[int, dict[str, Any]]:
    return measured(bench_ask.main, config, "--here", "--asks", "3", *options)


def test_all_sides_are_measured_at_each_number_of_results(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run(config, "--results", "12", "24")

    assert code == 0
    assert list(found["sides"]) == ["ours", "predictor", "stock"]
    for side in found["sides"].values():
        assert [row["results"] for row in side["rows"]] == [12, 24]
        for row in side["rows"]:
            assert row["asks"] == 3
            assert 0 < row["ask_ms"] <= row["ask_ms_95"] <= row["both_ms_95"]
            assert row["memory_mib"] > 50
    assert [row["refit_s"] > 0 for row in found["sides"]["predictor"]["rows"]] == [True, True]
    assert found["sides"]["ours"]["rows"][0]["refit_s"] is None
    assert found["stock_to_ours"].keys() == {"12", "24"}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-9] for line in lines[1:7]] == ["12", "24"] * 3
    drawing = ElementTree.parse(config.parent / "out.svg").getroot()
    curves = [each.attrib["data-curve"] for each in drawing.iter() if "data-curve" in each.attrib]
    assert curves == ["ours", "ours, predictor on", "stock hpbandster", "linear growth"]


def test_a_space_that_is_used_up_ends_a_side_and_not_the_others(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "MAX_ROUNDS", 10)

    code, found = run(config, "--sides", "ours", "stock", "--results", "12", "200", "--most-stock", "12")

    assert code == 0
    assert [[row["results"] for row in side["rows"]] for side in found["sides"].values()] == [[12], [12]]
    assert "ours                     200 the space has no more members to propose" in capsys.readouterr().out


def test_stock_hpbandster_is_measured_up_to_a_limit(config: Path) -> None:
    _, found = run(config, "--sides", "stock", "--results", "12", "24", "--most-stock", "23")

    assert [row["results"] for row in found["sides"]["stock"]["rows"]] == [12]


def test_no_fit_falls_into_an_ask_that_is_timed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []
    timed: list[int] = []
    fit = sides.assemble.GraphRanker._ensemble

    def counted(ranker: Any, history: Any, fitted_on: int) -> Any:
        before = ranker._fitted
        ensemble = fit(ranker, history, fitted_on)
        fits.extend([fitted_on] if ranker._fitted is not before else [])
        return ensemble

    asked = sides._asked

    def noted(*given: Any) -> Any:
        timed.append(len(fits))
        found = asked(*given)
        timed.append(len(fits))
        return found

    monkeypatch.setattr(sides.assemble.GraphRanker, "_ensemble", counted)
    monkeypatch.setattr(sides, "_asked", noted)

    rows = list(sides.predictor(setting(config, 12, 20), ticking()))

    assert fits == [12, 20]
    assert timed == [1, 1, 2, 2]
    assert [(row.replay, row.refit) for row in rows] == [(1.0, 1.0)] * 2


def test_only_asks_that_fill_a_new_slot_are_timed_and_the_mean_is_over_all(config: Path) -> None:
    (row,) = sides.ours(setting(config, 12), ticking())

    assert row.timed == (Timed(ask=1.0, follow=1.0),) * 3
    assert row.mean == 2.0


def test_the_history_has_so_many_results_when_asks_are_timed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    asked = sides._asked

    def noted(engine: Any, history: Any, *given: Any) -> Any:
        seen.append(len(history.results))
        return asked(engine, history, *given)

    monkeypatch.setattr(sides, "_asked", noted)
    list(sides.ours(setting(config, 12, 30), ticking()))

    assert seen == [12, 30]


def test_stock_hpbandster_proposes_from_its_model_when_it_is_timed(config: Path) -> None:
    with quietly():
        side = sides.StockBOHB(setting(config, 1).experiment(), ticking())
        for _ in range(40):
            side.step(learns=False)
        assert side.modelled
        assert not any(side.modelled)

        side.get_ready()
        side.modelled.clear()
        for _ in range(20):
            side.step(learns=True)

    assert any(side.modelled)
    assert side.num_results > 60


def row_of(results: int, seconds: float) -> Row:
    return Row(results=results, timed=(Timed(ask=seconds, follow=seconds),) * 3, mean=2 * seconds, memory=100.0)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_growth_is_the_power_of_the_number_of_results(power: float) -> None:
    rows = [summary(row_of(results, 0.001 * results**power)) for results in (10, 100, 1000)]

    assert growth(rows) == pytest.approx(power, abs=1e-9)
    assert growth(rows[:1]) is None


def test_ratios_are_where_both_sides_were_measured() -> None:
    measured = {
        "ours": [summary(row_of(results, 0.002)) for results in (10, 100)],
        "stock": [summary(row_of(results, 0.05)) for results in (100, 1000)],
    }

    assert ratios(measured) == {100: pytest.approx({"ask_ms": 25.0, "ask_ms_mean": 25.0, "mean_ms": 25.0})}
    assert summary(row_of(10, 0.002))["both_ms"] == 4.0


def test_one_row_is_drawn_too() -> None:
    assert "linear growth" not in picture("one", {"ours": [summary(row_of(10, 0.002))], "stock": []})


def test_an_experiment_that_is_not_valid_ends_with_its_exit_code(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text("name: [", encoding="utf-8")

    assert run(config, "--results", "3")[0] == 2
    assert "small.yaml" in capsys.readouterr().err
