"""The comparison of schedules counts what a search would pay, and hand-made networks are as wide as they may be."""

from __future__ import annotations

import json
from pathlib import Path

import bench_handmade
import bench_schedules
import pytest
import torch
from bench_schedules import Bench

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.train.schedule import Schedule

DIGITS = str(Path(__file__).resolve().parents[2] / "configs" / "digits.yaml")
SMALL = ["data.train_limit=60", "data.test_limit=20"]


@pytest.mark.parametrize(("method", "epochs"), [("constant-bf16", 9), ("decay", 10), ("cosine", 9)])
def test_a_decaying_rung_pays_for_its_branch_and_the_others_for_nothing_twice(method: str, epochs: int) -> None:
    # A fifth of 9 epochs is 2, of 3 it is 1: the last rung begins after 2 epochs and not after 3.
    assert bench_schedules.paid(TrainingConfig(), method, [1, 3, 9]) == epochs


def test_a_branch_ends_as_a_training_of_its_own_would() -> None:
    torch.set_num_threads(1)
    bench = Bench(Path(DIGITS), SMALL, [2, 5], 5)
    graph = next(bench.members())
    recipe = bench.recipe("decay")
    alone = bench.trainer(graph, recipe, 0)
    bench.epochs(alone, Schedule(recipe=recipe, budget=5, horizon=5), 0, 5)

    assert bench.branches(graph)[-1] == bench.scores(alone)


def test_lines_that_were_made_with_other_rungs_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text(json.dumps({"network": 0, "rungs": [1, 3], "epochs": 9}) + "\n")
    options = ["--config", DIGITS, "--networks", "1", "--rungs", "1", "2", "--final", "9", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["bench_schedules.py", *options])

    with pytest.raises(SystemExit):
        bench_schedules.main()
    assert "other --rungs" in capsys.readouterr().err


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_hand_made_network_is_as_wide_as_the_bounds_allow_and_no_wider(blocks: int) -> None:
    bound = (60_000, 20_000_000)
    width = bench_handmade.widest((3, 32, 32), 10, blocks, bound)
    fits, over = (bench_handmade.size_of((3, 32, 32), 10, blocks, each) for each in (width, width + 1))

    assert all(have <= most for have, most in zip(fits, bound, strict=True))
    assert any(have > most for have, most in zip(over, bound, strict=True))


def test_resnet_20_is_the_published_one_but_for_its_projections() -> None:
    # He et al. 2016 give .27 M parameters for 20 layers of widths 16, 32 and 64.
    params, flops = bench_handmade.size_of((3, 32, 32), 10, 3, 16)
    assert params == 272_474
    assert 80e6 < flops < 83e6
