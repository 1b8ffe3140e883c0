"""What compiling costs is told from what it gains. Nothing is compiled here: that takes a quarter of a minute."""

from __future__ import annotations

import json
from pathlib import Path

import bench_compile
import pytest
from training.loops import OurLoop


def test_compiling_has_paid_when_what_each_image_saves_adds_up_to_its_cost() -> None:
    found = bench_compile.verdict([2.0, 2.0, 4.0], [1.0, 1.0, 1.0], first=21.0, images=100)

    assert found["compile_s"] == 20.0
    assert found["pays_after_images"] == 2000  # a hundredth of a second an image
    assert found["ratio"] == 2.0
    assert found["eager"] == {"images_s": [50, 50, 25], "median": 50, "min": 25, "max": 50}


def test_what_gains_nothing_never_pays() -> None:
    found = bench_compile.verdict([1.0], [1.5], first=9.0, images=100)

    assert found["pays_after_images"] is None
    assert "never" in bench_compile.line("mlp", "float32", found)


def test_the_compiled_trainer_is_told_from_the_other_and_both_take_their_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[OurLoop, str]] = []
    monkeypatch.setattr(bench_compile, "keep_freed_memory", lambda: None)  # would last for all other tests
    monkeypatch.setattr(bench_compile, "compiled", lambda loop, mode: (asked.append((loop, mode)), loop)[1])
    small = ["--networks", "mlp", "--precisions", "float32", "--threads", "1"]
    small += ["--images", "24", "--batch-size", "12", "--rounds", "2"]

    code = bench_compile.main([*small, "--mode", "reduce-overhead", "--json", str(tmp_path / "found.json")])

    written = json.loads((tmp_path / "found.json").read_text())
    assert code == 0
    assert [mode for _, mode in asked] == ["reduce-overhead"]
    assert [len(written["networks"]["mlp"]["float32"][side]["images_s"]) for side in ("eager", "compiled")] == [2, 2]
    assert "mlp          float32" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--device", "cuda:99"], ["--mode", "fastest"]])
def test_what_cannot_be_measured_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        bench_compile.main(wrong)

    assert refused.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
