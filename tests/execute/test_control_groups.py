"""Every limit on the way from a process's own control group up to the outermost holds, in both versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from groups import Groups, write

from nasflow_cli.execute.control_groups import cores_allowed, memory_allowed


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


@pytest.mark.parametrize("limited", ["", "batch", "batch/job_7", "batch/job_7/step_0"])
def test_a_limit_of_memory_is_seen_at_whichever_depth_it_is(groups: Groups, limited: str) -> None:
    place = groups.unified("/batch/job_7/step_0")
    for folder in ("batch", "batch/job_7", "batch/job_7/step_0"):
        write(place / folder, memory_max="max")
    write(place / limited, memory_max=str(2**31))

    assert memory_allowed(groups.proc) == 2**31


def test_the_smallest_of_several_limits_rules(groups: Groups) -> None:
    place = groups.unified("/batch/job/step")
    write(place / "batch", memory_max=str(2**33))
    write(place / "batch/job", memory_max=str(2**30))
    write(place / "batch/job/step", memory_max=str(2**35))

    assert memory_allowed(groups.proc) == 2**30


def test_limits_of_groups_beside_and_below_are_no_limits(groups: Groups) -> None:
    place = groups.unified("/batch/job_7")
    write(place / "batch/job_8", memory_max="1000", cpu_max="1000 100000")
    write(place / "batch/job_7/another", memory_max="1000", cpu_max="1000 100000")

    assert memory_allowed(groups.proc) is None
    assert cores_allowed(groups.proc) is None


def test_in_version_1_each_controller_has_a_group_of_its_own(groups: Groups) -> None:
    memory = groups.legacy("memory", "/slurm/uid_1000/job_7")
    cpu = groups.legacy("cpu,cpuacct", "/user.slice")
    write(memory, memory_limit_in_bytes="9223372036854771712")
    write(memory / "slurm/uid_1000", memory_limit_in_bytes=str(2**32))
    write(memory / "user.slice", memory_limit_in_bytes="1000")
    write(cpu, cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    write(cpu / "user.slice", cpu_cfs_quota_us="250000", cpu_cfs_period_us="100000")
    write(cpu / "slurm", cpu_cfs_quota_us="1000", cpu_cfs_period_us="100000")

    assert memory_allowed(groups.proc) == 2**32
    assert cores_allowed(groups.proc) == 2.5


def test_where_both_versions_are_mounted_the_limits_of_both_hold(groups: Groups) -> None:
    write(groups.legacy("memory", "/job") / "job", memory_limit_in_bytes=str(2**32))
    write(groups.unified("/job") / "job", memory_max=str(2**33), cpu_max="50000 100000")

    assert memory_allowed(groups.proc) == 2**32
    assert cores_allowed(groups.proc) == 0.5


@pytest.mark.parametrize(
    ("group", "root", "limited"),
    [("/docker/1a/job", "/docker/1a", "job"), ("/docker/1a", "/docker/1a", "."), ("/../other", "/", ".")],
)
def test_in_a_container_the_groups_are_those_that_are_seen_from_within(
    groups: Groups, group: str, root: str, limited: str
) -> None:
    write(groups.legacy("memory", group, root) / limited, memory_limit_in_bytes=str(2**30))

    assert memory_allowed(groups.proc) == 2**30


def test_the_least_share_of_the_cores_rules(groups: Groups) -> None:
    place = groups.unified("/batch/job")
    write(place, cpu_max="max 100000")
    write(place / "batch", cpu_max="300000 100000")
    write(place / "batch/job", cpu_max="800000 100000")

    assert cores_allowed(groups.proc) == 3.0


@pytest.mark.parametrize(
    ("memory", "cores"),
    [("", ""), ("max", "max 100000"), ("-1", "-1"), ("nonsense", "nonsense 100000"), ("max", "9 0")],
)
def test_what_is_no_limit_is_none(groups: Groups, memory: str, cores: str) -> None:
    write(groups.unified("/job") / "job", memory_max=memory, cpu_max=cores)

    assert (memory_allowed(groups.proc), cores_allowed(groups.proc)) == (None, None)


def test_where_the_kernel_knows_no_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert (memory_allowed(tmp_path), cores_allowed(tmp_path)) == (None, None)
