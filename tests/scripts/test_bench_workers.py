"""Workers on a simulated clock: the real loop's order, the table's times, and the shares that come out."""

from __future__ import annotations

import heapq
import itertools
from pathlib import Path
from types import TracebackType
from typing import Any

import bench_workers
import pytest
from searching.workers import Busyness, Shift, busyness, simulate
from small_runs import measured, written

from nasflow_cli import assemble
from nasflow_cli.core.trial import Result, Trial
from nasflow_cli.execute.protocol import Outcome, Task
from nasflow_cli.search import Search, Stop

EXPERIMENT = """\
name: small
evaluator:
  kind: table
  path: results.csv
  architecture: {body.1.operation: first, body.2.operation: second, body.3.operation: third}
  scores: {1: early, 9: late}
  cost: seconds
space:
  stem: {width: 8}
  cells:
    body: {nodes: 3, edges: chain, operations: [conv3x3, conv1x1, skip, avg_pool3x3]}
  stages:
    - {cell: body, width: 8}
search:
  trials: 20
  budget: {rungs: [1, 9], eta: 3}
  predictor: {steps: 2, ensemble: 2, width: 4, layers: 1, min_results: 6, min_correlation: -1.0, min_pairs: 1}
executor: {kind: inline}
"""
OPERATIONS = ("conv3x3", "conv1x1", "skip", "avg_pool3x3")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """64 rows; 9 epochs of row i take 90, 180 or 270 seconds, so that trials often end together."""
    rows = [
        f"{','.join(member)},{number / 100},{number / 50},{90 + 90 * (number % 3)}"
        for number, member in enumerate(itertools.product(OPERATIONS, repeat=3))
    ]
    return written(tmp_path, EXPERIMENT, ["first,second,third,early,late,seconds", *rows])


def experiment(config: Path, *, predictor: bool = False) -> assemble.Experiment:
    checked = assemble.check(assemble.load(config, [f"runs={config.parent / 'runs'}"]))
    return bench_workers.configured(checked, 20, 0, predictor=predictor)


def looked_up(made: assemble.Experiment, trial: Trial) -> Result:
    assert made.table is not None
    return bench_workers.looked_up(made, made.table, trial)


def run(config: Path, *options: str) -> dict[str, Any]:
    code, found = measured(bench_workers.main, config, *options)
    assert code == 0
    return found


class SimulatedExecutor:
    """Keeps the contract of an executor; `collect` moves a simulated clock to the next results."""

    def __init__(self, slots: int, search: Search, made: assemble.Experiment) -> None:
        self.slots = slots
        self._search, self._made = search, made
        self._clock = 0.0
        self._heap: list[tuple[float, int]] = []
        self._results: dict[int, Result] = {}

    @property
    def running(self) -> frozenset[int]:
        return frozenset(number for _, number in self._heap)

    def submit(self, task: Task) -> None:
        assert len(self._heap) < self.slots
        result = self._results[task.number] = looked_up(self._made, self._search.history.trials[task.number])
        heapq.heappush(self._heap, (self._clock + result.seconds, task.number))

    def collect(self, timeout_s: float | None) -> list[Outcome]:
        self._clock = self._heap[0][0]
        outcomes = []
        while self._heap and self._heap[0][0] == self._clock:
            result = self._results[heapq.heappop(self._heap)[1]]
            outcomes.append(Outcome(number=result.trial, reply={"score": result.score}, seconds=result.seconds))
        return outcomes

    def stop(self, grace_s: float) -> list[Outcome]:
        raise AssertionError("nothing stops this search")

    def close(self) -> None:
        pass

    def __enter__(self) -> SimulatedExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Silent:
    def asked(self, *_: object) -> None: ...

    def told(self, *_: object) -> None: ...


@pytest.mark.parametrize("predictor", [False, True])
def test_the_loop_of_a_search_asks_and_tells_in_the_order_that_is_simulated(config: Path, predictor: bool) -> None:
    made = experiment(config, predictor=predictor)
    simulated, _ = simulate(assemble.make_optimizer(made), 5, lambda trial: looked_up(made, trial))
    directory = assemble.new_run(made, config, None)

    with assemble.open_search(made, directory, Silent(), Stop()) as search:  # type: ignore[arg-type]
        search.executor = SimulatedExecutor(5, search, made)
        search.work()

    assert len(simulated.trials) == 20
    assert search.history.trials == simulated.trials
    assert order(search.history.events) == order(simulated.events)


def order(events: list[Trial | Result]) -> list[tuple[str, int]]:
    return [("asked", each.number) if isinstance(each, Trial) else ("told", each.trial) for each in events]


def test_a_trial_takes_the_time_that_the_table_says_and_less_at_a_smaller_budget(config: Path) -> None:
    made = experiment(config)
    history, shifts = simulate(assemble.make_optimizer(made), 3, lambda trial: looked_up(made, trial))

    for trial, shift in zip(history.trials, shifts, strict=True):
        result = history.results[trial.number]
        row = round((result.score or 0) * (50 if trial.budget == 9 else 100))
        assert shift.ended - shift.began == pytest.approx((10 + 10 * (row % 3)) * trial.budget)
    assert {trial.budget for trial in history.trials} == {1, 9}
    moments = [shift.began for shift in shifts]
    assert moments == sorted(moments)
    assert all(sum(each.began <= moment < each.ended for each in shifts) <= 3 for moment in moments)


def test_the_shares_are_those_of_a_plan_that_is_counted_by_hand() -> None:
    shifts = [
        Shift(trial=0, began=0.0, ended=2.0),
        Shift(trial=1, began=0.0, ended=4.0),
        Shift(trial=2, began=2.5, ended=3.0),  # half a second late
    ]

    assert busyness(shifts, 2) == Busyness(
        until_last_handed_out=4.5 / 5, until_end=6.5 / 8, first_idle_s=2.0, last_handed_out_s=2.5, end_s=4.0
    )


def test_one_worker_is_always_busy_and_more_workers_than_trials_are_not(config: Path) -> None:
    alone, crowd = (
        run(config, "--workers", workers, "--trials", "20", "--seeds", "1", "--predictor", "without")["predictor"]
        for workers in ("1", "64")
    )

    assert alone["without"][0]["until_end"] == pytest.approx(1)
    assert alone["without"][0]["first_idle_s"] == pytest.approx(alone["without"][0]["end_s"])
    assert crowd["without"][0]["until_end"] < 20 / 64
    assert crowd["without"][0]["first_idle_s"] == 0


def test_both_engines_are_measured_and_the_same_again(config: Path) -> None:
    options = ("--workers", "4", "--trials", "20", "--seeds", "2")
    first, again = (run(config, *options)["predictor"] for _ in range(2))

    for runs in (*first.values(), *again.values()):
        assert [each["seed"] for each in runs] == [0, 1]
        assert all(each.pop("engine_s") > 0 for each in runs)
        assert all(each["trials"] == 20 for each in runs)
        assert all(0 < each["until_end"] < each["until_last_handed_out"] <= 1 for each in runs)
    assert first == again
    assert first["without"] != first["with"]


def test_a_table_without_training_times_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("  cost: seconds\n", ""))

    assert bench_workers.main(["--config", str(config), "--trials", "6", "--seeds", "1"]) == 2
    assert "evaluator.cost: " in capsys.readouterr().err
