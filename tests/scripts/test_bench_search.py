"""Search methods beside each other on a table that is made here: what is counted, what is paid, what is written."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import bench_search
import numpy as np
import pytest
from searching import peers
from searching.methods import GROUPS, METHODS, chosen
from searching.problem import Evaluation, Problem, Query, Steps, drive
from searching.summary import Incumbent, Marks, Run, band, run_of, summary, to_best
from small_runs import measured, written

from nasflow_cli.core.errors import ConfigError, MissingError

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
  scores: {1: early, 9: late}
  test: tested
space:
  stem: {width: 8}
  cells:
    body: {nodes: [1, 2], edges: chain, operations: [conv3x3, conv1x1, skip]}
  stages:
    - {cell: body, width: [8, 16, 24]}
search:
  trials: 10
  budget: {rungs: [1, 9]}
  pool: 8
  predictor: {steps: 4, ensemble: 2, width: 4, layers: 1, min_results: 6}
executor: {kind: inline}
"""
OPERATIONS = ("conv1x1", "conv3x3", "skip")

NEEDS = {name: method.package for name, method in METHODS.items() if method.package is not None}


def rows() -> list[str]:
    """36 rows with scores 1, 2, ...: the best is the last. Test scores are 100 more; early scores a tenth."""
    members = [
        (width, nodes, first, second)
        for width, nodes, first in itertools.product((8, 16, 24), (1, 2), OPERATIONS)
        for second in (OPERATIONS if nodes == 2 else ("nothing",))
    ]
    return [
        f"{width},{nodes},{first},{second},{number / 10},{number},{number + 100}"
        for number, (width, nodes, first, second) in enumerate(members, start=1)
    ]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path, EXPERIMENT, ["width,nodes,first,second,early,late,tested", *rows()])


def problem(config: Path, *, budgets: str = "largest", evaluations: int = 20) -> Problem:
    setting = bench_search.Setting(config=config, overrides=(), budgets=budgets, evaluations=evaluations)
    return bench_search.problem_of(setting)


def run(config: Path, *options: str) -> tuple[int, dict[str, Any]]:
    return measured(bench_search.main, config, *options)


def available(name: str) -> None:
    """Skip where the package of a method is not installed."""
    needed = NEEDS.get(name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed; it comes with the extra `bench`")


def test_the_results_hold_what_was_promised(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--methods", "random", "ours", "evolution", "--seeds", "2", "--evaluations", "12", "--marks", "6", "12")

    code, found = run(config, *options, "99")

    assert code == 0
    assert list(found["methods"]) == ["random", "ours", "evolution"]
    for result in found["methods"].values():
        assert len(result["evaluations_to_best"]) == len(result["epochs_to_best"]) == 2
        assert result["regret"]["6"] >= result["regret"]["12"] >= 0
        assert result["test"]["12"] == pytest.approx(136 - result["regret"]["12"])
        assert result["test_lowest"]["12"] <= result["test"]["12"]
        assert result["regret"]["99"] is result["test"]["99"] is None
        assert result["seconds"] > 0
    assert (found["best_score"], found["budgets"], found["epochs"]) == (36, [9], 108)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["random", "ours", "evolution"]


def test_the_curves_of_all_methods_are_drawn_beside_the_results(config: Path) -> None:
    run(config, "--methods", "random", "evolution", "--seeds", "2", "--evaluations", "8")

    for name in ("out.svg", "out-test.svg"):
        drawing = ElementTree.parse(config.parent / name).getroot()
        curves = [each.attrib["data-curve"] for each in drawing.iter() if "data-curve" in each.attrib]
        assert curves == ["evolution", "random"]


def test_the_same_seed_gives_the_same_run(config: Path) -> None:
    options = ("--methods", "random", "ours", "local", "--seeds", "1", "--evaluations", "10")
    first, again = (run(config, *options)[1]["methods"] for _ in range(2))

    for result in (*first.values(), *again.values()):
        del result["seconds"]
    assert first == again


def test_jobs_change_nothing_but_the_time(config: Path) -> None:
    options = ("--methods", "random", "--seeds", "2", "--evaluations", "10")

    one, two = (run(config, *options, "--jobs", jobs)[1]["methods"]["random"] for jobs in ("1", "2"))

    assert one["incumbents"] == two["incumbents"]


def constant(made: Problem, budgets: list[int], told: list[float | None]) -> Steps:
    """The same member at these budgets."""
    member = made.space.complete({"stages.0.width": 8, "body.nodes": 1, "body.1.operation": "conv3x3"})
    for budget in budgets:
        score = yield Query(architecture=member, budget=budget)
        told += [score]


def test_every_look_up_pays_its_whole_budget_also_the_second_time(config: Path) -> None:
    told: list[float | None] = []
    made = problem(config, budgets="all", evaluations=3)

    done = drive(made, constant(made, [1, 9, 9, 1, 1], told))

    assert [each.paid for each in done] == [1, 10, 19, 20, 21]
    assert told == [0.2, 2.0, 2.0, 0.2, 0.2]


def test_a_look_up_that_would_exceed_the_limit_is_not_made(config: Path) -> None:
    told: list[float | None] = []
    made = problem(config, budgets="all", evaluations=2)

    done = drive(made, constant(made, [1, 9, 9, 1], told))

    assert [each.paid for each in done] == [1, 10]
    assert told == [0.2, 2.0]


def test_what_has_no_row_is_paid_for_and_has_no_score(config: Path) -> None:
    results = config.parent / "results.csv"
    results.write_text("".join(line + "\n" for line in results.read_text().splitlines() if "8,1,conv3x3" not in line))
    told: list[float | None] = []
    made = problem(config)

    done = drive(made, constant(made, [9], told))

    assert [(each.paid, each.score, each.test) for each in done] == [(9, None, None)]
    assert told == [None]


def test_a_budget_that_the_comparison_does_not_have_is_refused(config: Path) -> None:
    made = problem(config)

    with pytest.raises(ValueError, match=r"asked for budget 1, which is none of \(9,\)"):
        drive(made, constant(made, [1], []))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "ours-one-budget"])
def test_with_one_budget_every_look_up_is_one_evaluation(config: Path, name: str) -> None:
    available(name)
    made = problem(config, evaluations=14)

    done = drive(made, METHODS[name].start(made, 0))

    assert [each.paid for each in done] == [9 * number for number in range(1, 15)]
    assert all(each.score is not None for each in done)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.several])
def test_with_several_budgets_what_can_uses_them(config: Path, name: str) -> None:
    available(name)
    made = problem(config, budgets="all", evaluations=3)

    done = drive(made, METHODS[name].start(made, 0))

    assert {each.budget for each in done} == {1, 9}
    assert 27 >= done[-1].paid > 18


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.several])
def test_what_cannot_use_cheaper_budgets_pays_the_largest(config: Path, name: str) -> None:
    available(name)
    made = problem(config, budgets="all", evaluations=10)

    done = drive(made, METHODS[name].start(made, 0))

    assert [each.paid for each in done] == [9 * number for number in range(1, 11)]


@pytest.mark.parametrize("name", GROUPS["peers"])
def test_a_peer_does_the_same_again_with_the_same_seed(config: Path, name: str) -> None:
    available(name)
    made = problem(config, evaluations=12)

    again, other = (
        [[each.row for each in drive(made, METHODS[name].start(made, seed))] for seed in seeds]
        for seeds in ((0, 0), (0, 1))
    )

    assert again[0] == again[1]
    assert other[0] != other[1]


@pytest.mark.parametrize("name", ["ours", "evolution-new", "local"])
def test_what_skips_duplicates_ends_when_everything_was_looked_up(config: Path, name: str) -> None:
    made = problem(config, evaluations=100)

    done = drive(made, METHODS[name].start(made, 0))

    looked_up = [each.row for each in done]
    assert len(set(looked_up)) == len(looked_up) <= 36
    # `skip` alone is one network at every place, so that our engine has fewer members
    assert name == "ours" or len(looked_up) == 36
    assert name == "ours" or max(each.score or 0 for each in done) == 36


@pytest.mark.parametrize("name", ["evolution", "ours-repeats"])
def test_what_does_not_skip_duplicates_pays_for_them(config: Path, name: str) -> None:
    made = problem(config, evaluations=100)

    done = drive(made, METHODS[name].start(made, 0))

    assert len(done) == 100 > len({each.row for each in done})


@pytest.mark.parametrize("name", ["tpe", "tpe-multi"])
def test_a_repeat_that_is_not_paid_for_is_told_what_is_known(config: Path, name: str) -> None:
    available(name)
    made = problem(config, evaluations=20)

    paying, skipping = (drive(made, METHODS[each].start(made, 0)) for each in (name, f"{name}-new"))

    assert len({each.row for each in paying}) < len(paying) == 20
    assert len({each.row for each in skipping}) == len(skipping) == 20


def test_the_choices_of_a_parameter_share_the_unit_interval(config: Path) -> None:
    made = problem(config)
    operations = next(each.domain.choices for each in made.parameters if each.name == "body.1.operation")

    drawn = [peers.placed(made, [x] * len(made.parameters))["body.1.operation"] for x in (0, 0.3, 0.4, 0.6, 0.7, 1)]

    assert drawn == [operations[i] for i in (0, 0, 1, 1, 2, 2)]


@pytest.mark.parametrize(
    ("methods", "environment", "again"),
    [
        (["random", "smac"], {"HOME": "h"}, {"HOME": "h", "PYTHONHASHSEED": "0"}),
        (["smac"], {"PYTHONHASHSEED": "random"}, {"PYTHONHASHSEED": "0"}),
        (["smac"], {"PYTHONHASHSEED": "7"}, None),
        (["random", "dehb"], {"HOME": "h"}, None),
    ],
)
def test_what_walks_over_sets_of_words_needs_a_hash_seed(
    methods: list[str], environment: dict[str, str], again: dict[str, str] | None
) -> None:
    assert bench_search.hash_seeded(chosen(methods), environment) == again


def test_the_command_starts_itself_again_with_a_hash_seed_before_it_runs_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class StartedAgainError(Exception):
        pass

    def start(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        raise StartedAgainError(program, arguments, environment["PYTHONHASHSEED"])

    command = ["python", "-X", "dev", "bench_search.py", "--config", "no.yaml", "--methods", "random", "smac"]
    monkeypatch.setattr(bench_search.os, "execve", start)
    monkeypatch.setattr(bench_search, "require", lambda methods: None)
    monkeypatch.setattr(sys, "orig_argv", command)
    monkeypatch.setattr(sys, "argv", command[3:])
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)

    with pytest.raises(StartedAgainError) as again:
        bench_search.main()

    assert again.value.args == (sys.executable, [sys.executable, *command[1:]], "0")


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)

    with pytest.raises(MissingError, match=r"'optuna' is not installed; .*pip install .*\.\[bench\]"):
        peers.package("optuna")


def test_an_unknown_method_is_refused_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match="no 'evolutoin'; did you mean 'evolution'"):
        chosen(["random", "evolutoin"])


def test_a_method_that_is_named_twice_is_run_once() -> None:
    assert [method.name for method in chosen(["local", "peers"])][:2] == ["local", "random"]
    assert len(chosen(["all", "ablations"])) == len(METHODS)


def evaluation(number: int, score: float | None, budget: int = 9) -> Evaluation:
    return Evaluation(row=number, budget=budget, paid=9 * number, score=score, test=score and score + 100)


def test_incumbents_are_what_scored_higher_at_the_largest_budget() -> None:
    scores = [(3.0, 9), (None, 9), (50.0, 1), (2.0, 9), (4.0, 9), (4.0, 9)]

    made = run_of(0, 1.0, [evaluation(i, score, budget) for i, (score, budget) in enumerate(scores, 1)], 9)

    assert [(each.number, each.score) for each in made.incumbents] == [(1, 3.0), (5, 4.0)]
    assert made.at(8) is None
    assert [made.at(paid).score for paid in (9, 44, 45, 900)] == [3.0, 3.0, 4.0, 4.0]
    assert made.found(4.0).number == 5
    assert made.found(4.1) is None


def test_means_are_over_all_seeds_or_not_given() -> None:
    early = Run(seed=0, seconds=1, evaluations=2, incumbents=(Incumbent(number=1, paid=9, score=7, test=70),))
    late = replace(early, seconds=3, incumbents=(Incumbent(number=2, paid=18, score=9, test=None),))

    found = summary([early, late], 9.0, Marks(places=(1, 2, 3), epochs=9, limit=18))

    assert found["evaluations_to_best"] == [None, 2]
    assert found["epochs_to_best"] == [None, 18]
    assert found["regret"] == {1: None, 2: 1.0, 3: None}
    assert found["test"] == {1: None, 2: None, 3: None}
    assert found["seconds"] == 2


def test_what_was_not_found_counts_as_the_limit_and_is_marked() -> None:
    assert to_best([10, 20, 60], 100) == ("30.0", "20")
    assert to_best([10, 20, None], 100) == (">43.3", "20")
    assert to_best([10, None, None], 100) == (">70.0", ">100")


def test_a_band_holds_the_mean_and_is_narrower_with_more_runs() -> None:
    values = np.random.default_rng(0).normal(size=(64, 3))

    few, many = band(values[:8]), band(values)

    assert (many[0] < values.mean(0)).all()
    assert (values.mean(0) < many[1]).all()
    assert ((many[1] - many[0]) < (few[1] - few[0])).all()
