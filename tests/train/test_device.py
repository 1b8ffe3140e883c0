"""A device that several workers share: what each may take of its memory, and what it says that it took."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nasflow_cli.core.registry import EVALUATORS
from nasflow_cli.execute.devices import CHILDREN_VARIABLE
from nasflow_cli.train import final as final_module
from nasflow_cli.train import worker as worker_module
from nasflow_cli.train.device import CONTEXT_BYTES, forget_peak, peak_memory, tensor_share, worker_device

GIB = 2**30
Calls = list[tuple[str, Any]]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A device of 8 GiB that is not there; what is asked of it, in order."""
    calls: Calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=8 * GIB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, *_: calls.append(("limit", share)))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: calls.append(("reset", None)))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 3 * GIB // 2)
    return calls


def test_a_worker_of_a_shared_device_may_fill_its_part_less_what_cuda_itself_takes(
    device: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHILDREN_VARIABLE, "4")

    assert worker_device() == torch.device("cuda")

    ((what, share),) = device
    assert what == "limit"
    assert 4 * (share * 8 * GIB + CONTEXT_BYTES) == pytest.approx(8 * GIB)


@pytest.mark.parametrize("children", ["1", None])
def test_a_worker_that_has_a_device_to_itself_is_not_limited(
    device: Calls, monkeypatch: pytest.MonkeyPatch, children: str | None
) -> None:
    monkeypatch.delenv(CHILDREN_VARIABLE, raising=False)
    if children is not None:
        monkeypatch.setenv(CHILDREN_VARIABLE, children)

    assert worker_device() == torch.device("cuda")

    assert device == []


def test_a_worker_without_a_device_asks_nothing_of_one(device: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(CHILDREN_VARIABLE, "4")

    assert worker_device() == torch.device("cpu")

    forget_peak(torch.device("cpu"))
    assert peak_memory(torch.device("cpu")) == {}
    assert device == []


def test_the_parts_of_a_very_small_device_are_never_nothing() -> None:
    assert tensor_share(8, GIB) == 1 / 16


@pytest.mark.parametrize("make", ["search", "final"])
def test_the_limit_stands_before_a_worker_makes_anything_that_could_hold_a_tensor(
    device: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: str
) -> None:
    monkeypatch.setenv(CHILDREN_VARIABLE, "2")
    monkeypatch.setattr(EVALUATORS, "_entries", dict(EVALUATORS._entries))
    EVALUATORS.register("seen", data=False)(lambda config, run, where: device.append(("made", where)))
    monkeypatch.setattr(final_module, "FinalTrainer", lambda config, run, where: device.append(("made", where)))
    body = {"nodes": 1, "operations": ["conv3x3", "conv1x1"]}
    monkeypatch.setattr(worker_module, "load_plugins", lambda names: device.append(("loaded", names)))
    config = {
        "evaluator": "seen",
        "plugins": [],
        "space": {"stem": {"width": 8}, "cells": {"body": body}, "stages": [{"cell": "body", "width": 8}]},
        "search": {"trials": 1, "budget": {"min": 1, "max": 1}},
    }
    handlers = {"search": worker_module.make_handler, "final": final_module.make_handler}

    handlers[make]({"config": config, "run": str(tmp_path)})

    assert [what for what, _ in device] == ["limit", "loaded", "made"]
    assert device[2][1] == torch.device("cuda")


def test_the_peak_is_measured_from_the_trials_beginning_in_mebibytes(device: Calls) -> None:
    cuda = torch.device("cuda")

    forget_peak(cuda)

    assert device == [("reset", None)]
    assert peak_memory(cuda) == {"device_memory_mib": 1536.0}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_real_device_no_more_than_the_share_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHILDREN_VARIABLE, "2")
    device = worker_device()
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(total_bytes // 2, dtype=torch.uint8, device=device)
        forget_peak(device)
        torch.empty(2**26, dtype=torch.uint8, device=device)
        assert peak_memory(device)["device_memory_mib"] >= 64
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
