"""Rungs whose rate is lowered for their end: what a promoted child goes on from, and what it pays for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import CrashError, events, run, timeless, write_config

from nasflow_cli import assemble
from nasflow_cli.core.interrupt import Interrupted
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.optim.plan import planned_brackets
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.child import ChildTrainer
from nasflow_cli.train.protocol import Assignment, Report
from nasflow_cli.train.schedule import Schedule

torch.set_num_threads(1)


class Children:
    """Trials of one network under a decay of half of each rung; the rungs are 2, 4 and 8 epochs."""

    def __init__(self, folder: Path) -> None:
        budget = {"min": 2, "max": 8, "eta": 2}
        path = write_config(
            folder / "tiny.yaml", search={"budget": budget}, training={"schedule": "decay", "decay_fraction": 0.5}
        )
        self.run = RunDirectory(folder / "run")
        self.evaluator = ChildTrainer(assemble.load(path, []), self.run, torch.device("cpu"))
        members = (self.evaluator.space.sample_member(generator(0, n, Purpose.FEASIBLE)) for n in range(20))
        self.architecture, graph = next((a, graph) for a, graph in members if graph.fault is None)
        self.key = graph.key()

    def train(self, number: int, budget: int, *parents: int, stop: Callable[[], bool] = lambda: False) -> Report:
        assignment = Assignment(
            number=number,
            architecture=self.architecture,
            key=self.key,
            budget=budget,
            seed=5,
            lineage=(number, *parents),
        )
        return self.evaluator(assignment, stop)

    def weights(self, number: int) -> dict[str, torch.Tensor]:
        return load_file(self.run.trial(number).checkpoint)


@pytest.fixture
def children(tmp_path: Path) -> Children:
    return Children(tmp_path)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_promoted_child_is_what_a_training_from_scratch_would_be(children: Children) -> None:
    children.train(0, 2)
    children.train(1, 4, 0)
    promoted = children.train(2, 8, 1, 0)
    whole = children.train(3, 8)

    assert promoted.score == whole.score
    assert same(children.weights(2), children.weights(3))


def test_a_promoted_child_pays_for_what_its_rung_does_not_have_in_common_with_the_one_before(
    children: Children,
) -> None:
    # The stems are 1, 2 and 4 epochs.
    assert [children.train(*each).epochs for each in ((0, 2), (1, 4, 0), (2, 8, 1, 0))] == [2, 3, 6]


def test_a_child_that_is_stopped_while_the_rate_falls_ends_as_if_it_had_not_been(children: Children) -> None:
    whole = children.train(0, 8)
    for epochs in range(1, 8):
        with pytest.raises(Interrupted, match=f"epoch {epochs}"):
            children.train(1, 8, stop=lambda: True)

    assert children.train(1, 8).score == whole.score
    assert same(children.weights(0), children.weights(1))


@pytest.mark.parametrize("damage", [Path.unlink, lambda stem: stem.write_bytes(stem.read_bytes()[:-9])])
def test_where_the_stem_is_lost_or_damaged_a_child_goes_on_from_an_older_one_and_says_so(
    children: Children, damage: Callable[[Path], object]
) -> None:
    children.train(0, 2)
    children.train(1, 4, 0)
    damage(children.run.trial(1).stem)

    report = children.train(2, 8, 1, 0)

    assert report.epochs == 7
    assert "trial 1" in report.notes[0]
    assert "going on from trial 0 after 1 epoch" in report.notes[0]
    children.train(3, 8)
    assert same(children.weights(2), children.weights(3))


def test_the_longest_training_leaves_no_stem(children: Children) -> None:
    children.train(0, 8)
    assert not children.run.trial(0).stem.exists()


@pytest.mark.parametrize("kind", ["decay", "cosine"])
def test_a_search_under_a_schedule_leaves_no_files_of_losers_and_resumes_to_the_same(tmp_path: Path, kind: str) -> None:
    training = {"schedule": kind, **({"decay_fraction": 0.5} if kind == "decay" else {})}
    search = {"trials": 8, "budget": {"min": 2, "max": 4, "eta": 2}}
    config = write_config(tmp_path / "tiny.yaml", training=training, search=search)
    run(config, tmp_path / "whole")
    with pytest.raises(CrashError):
        run(config, tmp_path / "cut", crash_after=5)
    run(config, tmp_path / "cut")

    assert timeless(tmp_path / "cut") == timeless(tmp_path / "whole")
    told = [event for event in events(tmp_path / "whole") if event["event"] == "told"]
    assert all("notes" not in event or not event["notes"] for event in told)
    assert not list((tmp_path / "whole" / "trials").glob("*/stem.safetensors"))
    settings = assemble.load(config, [])
    plan = planned_brackets(settings.search.budget, settings.search.turn_brackets, settings.search.trials)
    stems = {budget: Schedule(recipe=settings.training, budget=budget, horizon=4).stem for budget in (2, 4)}
    assert stems[2] == (1 if kind == "decay" else 2)
    assert sum(event["epochs"] for event in told) == sum(bracket.num_epochs(stems.__getitem__) for _, bracket in plan)
