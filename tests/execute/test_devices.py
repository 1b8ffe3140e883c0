"""CUDA_VISIBLE_DEVICES in all its forms, and how many workers a machine gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from groups import Groups, write

from nasflow_cli.execute.devices import (
    CHILDREN_VARIABLE,
    NEIGHBOURS_VARIABLE,
    THREAD_VARIABLES,
    children_of_devices,
    device_slots,
    usable_cores,
    visible_tokens,
)


def test_an_unset_variable_shows_all_devices() -> None:
    slots = device_slots(None, 1, None, lambda: 3, 8)

    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("visible", "tokens"),
    [
        ("0", ["0"]),
        ("3,1", ["3", "1"]),
        (" 2 , 0 ", ["2", "0"]),
        ("0,2,-1,1", ["0", "2"]),
        ("1,x,2", ["1"]),
        ("1,,2", ["1"]),
        ("0,1,0,1,2", ["0", "1", "2"]),
        ("GPU-8932f937,GPU-1a2b", ["GPU-8932f937", "GPU-1a2b"]),
        ("MIG-b2c0,MIG-GPU-8932f937/1/0", ["MIG-b2c0", "MIG-GPU-8932f937/1/0"]),
        ("GPU-8932f937,0", ["GPU-8932f937"]),
        ("0,GPU-8932f937", ["0"]),
        ("", []),
        ("-1", []),
        ("-1,0", []),
        ("NoDevFiles", []),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(visible: str, tokens: list[str]) -> None:
    assert visible_tokens(visible) == tuple(tokens)


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles"])
def test_hidden_devices_are_not_even_counted(visible: str) -> None:
    slots = device_slots(None, 1, visible, lambda: pytest.fail("devices were counted"), 2)

    assert [slot.name for slot in slots] == ["cpu:0", "cpu:1"]


def test_a_machine_without_devices_runs_on_its_cores_whatever_the_variable_says() -> None:
    assert [slot.name for slot in device_slots(None, 1, "0", lambda: 0, 2)] == ["cpu:0", "cpu:1"]


def test_a_worker_on_the_cpu_sees_no_device() -> None:
    (slot,) = device_slots(1, 1, "", lambda: 1, 4)

    assert slot.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_several_children_share_a_device_after_all_devices_have_one() -> None:
    slots = device_slots(None, 2, "3,1", lambda: 2, 8)

    assert [slot.name for slot in slots] == ["cuda:3/0", "cuda:1/0", "cuda:3/1", "cuda:1/1"]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["3", "1", "3", "1"]


@pytest.mark.parametrize(("workers", "children"), [(None, ["2", "2", "2", "2"]), (3, ["2", "1", "2"]), (1, ["1"])])
def test_each_worker_is_told_how_many_really_have_its_device(workers: int | None, children: list[str]) -> None:
    slots = device_slots(workers, 2, "3,1", lambda: 2, 8)

    assert [slot.environment[CHILDREN_VARIABLE] for slot in slots] == children
    assert children_of_devices(slots) == dict(zip(["3", "1"], map(int, children), strict=False))


def test_workers_on_the_cpu_share_no_device() -> None:
    slots = device_slots(3, 2, None, lambda: 0, 8)

    assert {slot.environment[CHILDREN_VARIABLE] for slot in slots} == {"1"}
    assert {slot.environment[NEIGHBOURS_VARIABLE] for slot in slots} == {"3"}
    assert children_of_devices(slots) == {}


@pytest.mark.parametrize(
    ("workers", "names"),
    [(1, ["cuda:0/0"]), (3, ["cuda:0/0", "cuda:1/0", "cuda:0/1"])],
)
def test_a_number_of_workers_is_kept_and_dealt_out_over_the_devices(workers: int, names: list[str]) -> None:
    assert [slot.name for slot in device_slots(workers, 4, None, lambda: 2, 8)] == names


def test_a_number_of_workers_is_kept_on_the_cpu() -> None:
    assert len(device_slots(5, 1, None, lambda: 0, 2)) == 5


@pytest.mark.parametrize(("workers", "threads"), [(None, "1"), (1, "8"), (3, "2"), (16, "1")])
def test_the_cores_are_shared_among_the_workers(workers: int | None, threads: str) -> None:
    slots = device_slots(workers, 1, None, lambda: 0, 8)

    assert {slot.environment[name] for slot in slots for name in THREAD_VARIABLES} == {threads}


@pytest.mark.parametrize(("workers", "children", "cores"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_numbers_below_one_are_refused(workers: int, children: int, cores: int) -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        device_slots(workers, children, None, lambda: 0, cores)


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("10 100000", 1), ("99999999 100000", None)])
def test_the_quota_of_a_container_or_a_batch_system_is_rounded_up_and_only_lowers_the_number(
    tmp_path: Path, quota: str, cores: int | None
) -> None:
    groups = Groups(tmp_path)
    write(groups.unified("/batch/job") / "batch/job", cpu_max=quota)

    assert usable_cores(groups.proc) == (cores or len(os.sched_getaffinity(0)))


def test_a_quota_of_one_and_a_half_cores_is_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    groups = Groups(tmp_path)
    write(groups.unified("/job") / "job", cpu_max="150000 100000")

    assert usable_cores(groups.proc) == 2


@pytest.mark.parametrize("text", ["max 100000", "", None])
def test_without_a_quota_all_cores_of_the_affinity_count(tmp_path: Path, text: str | None) -> None:
    groups = Groups(tmp_path)
    place = groups.unified("/job")
    if text is not None:
        write(place / "job", cpu_max=text)

    assert usable_cores(groups.proc) == len(os.sched_getaffinity(0))
