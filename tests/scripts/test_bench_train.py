"""The three loops train the same network, and what is written down is what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import bench_train
import numpy as np
import pytest
import torch
from training.loops import LOOPS, SEED, HandLoop, PillowImages, UsualLoop, written_by_hand
from training.members import MEMBERS, problem_of
from training.problem import NUM_CLASSES, Problem
from training.rounds import Side

from nasflow_cli.nets.builder import build

CPU = torch.device("cpu")


def problem(name: str, images: int = 24, batch_size: int = 12) -> Problem:
    return problem_of(name, images, batch_size, None)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_network_written_by_hand_computes_what_the_member_of_the_space_does(name: str) -> None:
    made = problem(name, 4, 4)
    theirs = build(made.graph, made.input_shape, NUM_CLASSES, SEED)
    by_hand = written_by_hand(made)
    x = torch.randn(4, *made.input_shape)

    outputs = [network(x) for network in (theirs, by_hand)]
    for output in outputs:
        output.square().sum().backward()

    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)
    assert [each.shape for each in theirs.parameters()] == [each.shape for each in by_hand.parameters()]
    for own, other in zip(theirs.parameters(), by_hand.parameters(), strict=True):
        assert own.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-2, atol=1e-2 * float(own.grad.abs().max()))


def test_the_hand_written_loop_and_ours_take_the_same_steps() -> None:
    made = problem("mlp", 40, 40)  # a batch is an epoch: its order does not matter

    losses = {name: [LOOPS[name](made, CPU, "float32")] for name in ("hand", "ours")}
    trained = {name: [loop.epoch(number) for number in range(5) for loop in loops] for name, loops in losses.items()}

    assert trained["hand"] == pytest.approx(trained["ours"], rel=1e-3)
    assert trained["hand"][-1] < trained["hand"][0]


def images_that_tell_their_pixels(made: Problem) -> Problem:
    """Every pixel of an image with another value, so that a shift and a mirroring can be read off."""
    made.images[:] = np.arange(made.images[0].size, dtype=np.uint32).reshape(made.images[0].shape) % 251 + 1
    return made


def test_the_usual_loop_and_the_hand_written_one_shift_and_mirror_images_and_normalise_them_alike() -> None:
    made = images_that_tell_their_pixels(problem("resnet", 400, 200))
    by_hand = HandLoop(made, CPU, "float32")
    by_pillow = PillowImages(made)
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (made.mean, made.std))

    seen = []
    for batch in (by_hand.batch(torch.arange(400)), torch.stack([by_pillow[index][0] for index in range(400)])):
        raw = (batch * std + mean).round()
        seen.append({tuple(each[0, 16, 14:18].int().tolist()) for each in raw})
        assert raw.min() == 0  # the black border
        assert raw.max() == 251

    possible = set()
    padded = np.pad(made.images[0, 0], 4)
    for left in range(9):
        for top in range(9):
            shifted = padded[top : top + 32, left : left + 32]
            possible |= {tuple(each[16, 14:18].tolist()) for each in (shifted, shifted[:, ::-1])}
    for found in seen:
        assert found <= possible
        assert len(found) > 0.75 * len(possible)  # nine of ten are expected in 400 draws


def test_the_usual_loop_trains_on_what_its_workers_make() -> None:
    loop = UsualLoop(problem("mlp", 24, 12), CPU)

    first, second = loop.epoch(0), loop.epoch(1)

    assert second < first


def test_the_sides_of_a_cpu_have_all_cores_and_a_search_has_a_worker_on_each() -> None:
    sides = bench_train.sides_of("cpu", 2, ["float32"])

    assert [(side.name, side.processes * side.threads) for side in sides] == [
        ("usual float32", 2),
        ("hand float32", 2),
        ("ours float32", 2),
        ("ours x 2 float32", 2),
    ]
    assert [side.loop for side in bench_train.sides_of("cuda", 8, ["bfloat16"])] == ["usual", "hand", "ours"]


def test_ratios_are_medians_over_rounds_against_the_hand_written_loop_of_the_same_precision() -> None:
    found = {
        side.name: {"loop": side.loop, "precision": side.precision, "images_s": rates}
        for side, rates in (
            (Side(loop="usual", precision="float32", processes=1, threads=1), [1.0, 2.0, 4.0]),
            (Side(loop="hand", precision="float32", processes=1, threads=1), [9.0, 9.0, 9.0]),
            (Side(loop="hand", precision="bfloat16", processes=1, threads=1), [4.0, 4.0, 5.0]),
            (Side(loop="ours", precision="bfloat16", processes=1, threads=1), [3.0, 4.0, 4.0]),
        )
    }

    assert bench_train.ratios(found) == {"ours bfloat16": {"usual": 2.0, "hand": 0.8}}


def test_what_is_written_down_is_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    options = ["--networks", "mlp", "--precisions", "float32", "--threads", "1", "--images", "130", "--rounds", "2"]

    assert bench_train.main([*options, "--json", str(out)]) == 0

    document = json.loads(out.read_text())
    network = document["networks"]["mlp"]
    assert (document["rounds"], document["threads"], document["device"], document["clock"]) == (2, 1, "cpu", "wall")
    assert document["environment"]["cores"] >= 1
    assert network["images"] == 128  # whole batches of 64
    assert list(network["sides"]) == ["usual float32", "hand float32", "ours float32"]
    for side in network["sides"].values():
        assert side["params"] == network["params"]
        assert len(side["images_s"]) == 2
        assert side["median"] == median(side["images_s"])
        assert side["share"] > 0
    ours = network["sides"]["ours float32"]
    assert ours["over_usual"] == bench_train.ratios(network["sides"])["ours float32"]["usual"]
    assert len(capsys.readouterr().out.splitlines()) == 2 + 3


def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")

    with pytest.raises(SystemExit):
        bench_train.main(["--device", "cuda"])

    assert "there is no CUDA device" in capsys.readouterr().err
