"""What of the executor `ray` needs no Ray: how a cluster is divided, what a node must see, what is missing."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from nasflow_cli.core.errors import MissingError
from nasflow_cli.execute.actor import Actor, look_for
from nasflow_cli.execute.boundary import encode
from nasflow_cli.execute.bridge import reason
from nasflow_cli.execute.cluster import make_ray, require_ray
from nasflow_cli.execute.devices import CHILDREN_VARIABLE, NEIGHBOURS_VARIABLE
from nasflow_cli.execute.log import LogError
from nasflow_cli.execute.protocol import Slot
from nasflow_cli.execute.ray_heart import heart_of
from nasflow_cli.execute.ray_node import Share, fraction, share_of
from nasflow_cli.execute.session import end_members, members, open_addresses


def share(*nodes: dict[str, float], workers: int | None = None, children: int = 1) -> Share:
    found = share_of({f"node {n}": node for n, node in enumerate(nodes)}, workers, children)
    assert found is not None
    return found


def divided(*nodes: dict[str, float], workers: int | None = None, children: int = 1) -> tuple[int, int, float]:
    found = share(*nodes, workers=workers, children=children)
    return found.actors, found.num_cpus, found.num_gpus


def test_without_devices_each_core_is_a_place() -> None:
    assert divided({"CPU": 2}, {"CPU": 6}) == (8, 1, 0.0)


def test_a_lone_worker_gets_all_the_cores_that_one_node_has() -> None:
    assert divided({"CPU": 2}, {"CPU": 6}, workers=1) == (1, 6, 0.0)


def test_cores_are_dealt_out_so_that_every_worker_finds_its_own_on_one_node() -> None:
    assert divided({"CPU": 3}, {"CPU": 8}, workers=3) == (3, 3, 0.0)


def test_no_more_workers_are_wished_for_than_find_room() -> None:
    assert divided({"CPU": 2}, workers=5) == (2, 1, 0.0)


def test_where_there_are_devices_each_is_shared_by_as_many_as_the_settings_say() -> None:
    assert divided({"CPU": 16, "GPU": 2}, {"CPU": 64}, children=2) == (4, 4, 0.5)


def test_fewer_workers_than_places_spread_over_all_devices() -> None:
    assert divided({"CPU": 16, "GPU": 4}, workers=4, children=2) == (4, 4, 1.0)


def test_devices_without_cores_to_spare_are_used_all_the_same() -> None:
    assert divided({"CPU": 2, "GPU": 4}) == (4, 0, 1.0)


def test_a_cluster_without_cores_and_devices_has_no_place() -> None:
    assert share_of({"a": {"memory": 1e9}, "b": {"CPU": 0}}, None, 1) is None


def test_the_threads_of_a_worker_are_the_cores_that_it_was_given() -> None:
    found = share({"CPU": 6}, workers=2)

    assert found.environment["OMP_NUM_THREADS"] == "3"
    assert found.environment["CUDA_VISIBLE_DEVICES"] == ""


def threads(found: Share) -> list[tuple[str, str]]:
    """Of each node that has workers, in order: how many it has at most, and the threads of each."""
    return [(there[NEIGHBOURS_VARIABLE], there["OMP_NUM_THREADS"]) for there in found.on_nodes.values()]


def test_workers_share_the_cores_of_the_node_that_they_run_on_whatever_other_nodes_have() -> None:
    found = share({"CPU": 8, "GPU": 4}, {"CPU": 64, "GPU": 1}, {"CPU": 32})

    assert (found.actors, found.num_cpus) == (5, 2)
    assert threads(found) == [("4", "2"), ("1", "64")]
    assert found.on_a_node == 4


def test_cores_that_are_left_on_a_node_where_no_further_worker_fits_are_its_workers() -> None:
    found = share({"CPU": 4}, {"CPU": 7}, workers=3)

    assert (found.actors, found.num_cpus) == (3, 3)
    assert threads(found) == [("1", "4"), ("2", "3")]


def test_no_more_workers_are_counted_on_a_node_than_there_are() -> None:
    assert threads(share({"CPU": 16, "GPU": 8}, workers=2)) == [("2", "8")]


def test_a_node_that_joins_later_has_the_threads_that_all_can_have() -> None:
    found = share({"CPU": 8, "GPU": 4}, {"CPU": 64, "GPU": 1})

    assert found.environment["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(("num_devices", "workers", "told"), [(2, None, "3"), (2, 4, "2"), (2, 2, "1"), (0, 4, "1")])
def test_a_worker_is_told_how_many_have_its_device_so_that_each_takes_its_part_of_the_memory(
    num_devices: int, workers: int | None, told: str
) -> None:
    found = share({"CPU": 16, "GPU": num_devices}, workers=workers, children=3)

    assert found.environment[CHILDREN_VARIABLE] == told


@pytest.mark.parametrize("per_device", range(1, 40))
def test_as_many_fractions_as_share_a_device_fit_on_it_and_no_more(per_device: int) -> None:
    parts = round(fraction(per_device) * 10_000)  # as Ray counts

    assert parts * per_device <= 10_000 < parts * (per_device + 1)


def test_a_node_that_does_not_see_the_run_directory_says_so_and_makes_none(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "trials" / "3"

    with pytest.raises(LogError, match=r"does not see .*/trials/3; the run directory has to be on a file system"):
        look_for(folder)

    assert not (tmp_path / "run").exists()


def test_a_node_with_another_version_of_nasflow_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"0\.0\.1 at the driver; install the same version on every node"):
        Actor(encode({"version": "0.0.1"}))


def test_without_the_package_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingError, match=r"pip install 'nasflow\[cluster\]'"):
        make_ray("handlers:build", {}, [Slot(name="cpu:0")], None, time.time)


@pytest.mark.parametrize(
    ("version", "asks"), [("2.9.3", False), ("2.59.1", False), ("2.60.0", True), ("3.0.0rc1", True)]
)
def test_a_ray_that_asks_nobody_for_a_secret_is_not_started_but_may_be_used_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch, version: str, asks: bool
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("nasflow_cli.execute.cluster.version", lambda name: version)
    monkeypatch.setattr("nasflow_cli.execute.cluster.sys.platform", "linux")

    require_ray(starts=False)
    refusal = pytest.raises(MissingError, match=rf"Ray {re.escape(version)} .* pip install 'nasflow\[cluster\]'")
    with nullcontext() if asks else refusal:
        require_ray(starts=True)


def test_a_folder_that_happens_to_be_called_ray_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("nasflow_cli.execute.cluster.version", version)

    with pytest.raises(MissingError, match=r"no package of that name is installed: pip install 'nasflow\[cluster\]'"):
        require_ray(starts=False)


def test_where_there_is_no_room_for_a_process_no_folder_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(name: str, main: object) -> None:
        assert list(tmp_path.iterdir()) != []
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("nasflow_cli.execute.cluster.require_ray", lambda *, starts: None)
    monkeypatch.setattr("nasflow_cli.execute.cluster.WorkerProcess", full)
    monkeypatch.setattr("nasflow_cli.execute.cluster.private_folder", lambda: Path(tempfile.mkdtemp(dir=tmp_path)))

    with pytest.raises(MissingError, match=r"no process for Ray can be started: .*temporarily unavailable"):
        make_ray("handlers:build", {}, [Slot(name="cpu:0")], None, time.time)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="watches by Linux's pidfd")
def test_a_process_that_ends_before_it_is_watched_is_left_out_and_a_ray_of_which_nothing_is_left_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nasflow_cli.execute.ray_heart.program_of", lambda pid: "raylet")
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as lives:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()

        ((pid, watched),) = heart_of([ended.pid, lives.pid]).items()

        assert pid == lives.pid
        assert not wait([watched], 0)
        lives.kill()
        assert wait([watched], 60)
        os.close(watched)
    with pytest.raises(MissingError, match="none of gcs_server, raylet can be watched"):
        heart_of([ended.pid])


def test_of_rays_long_messages_the_sentence_is_kept_that_says_what_became_of_an_actor() -> None:
    error = RuntimeError(
        "The actor died unexpectedly.\n\tpid: 7\nThe actor is dead because its node has died. " + "x" * 999
    )

    assert reason(error).startswith("The actor is dead because its node has died. xxx")
    assert len(reason(error)) < 310


def test_of_a_traceback_that_ray_hands_on_the_end_is_kept_which_names_the_error() -> None:
    frames = "".join(f'  File "/a/long/path/to/module_{n}.py", line {n}, in a_function\n    call()\n' for n in range(9))
    error = RuntimeError(
        "The actor died because of an error raised in its creation task, ray::Actor.__init__() (pid=7, ip=127.0.0.1)\n"
        f"{frames}RuntimeError: nasflow is 0.2 on node and 0.1 at the driver"
    )

    assert reason(error).endswith("RuntimeError: nasflow is 0.2 on node and 0.1 at the driver")
    assert len(reason(error)) < 310


LISTENER = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_who_listens_where_others_reach_it_is_found_in_its_session_and_ended() -> None:
    command = [sys.executable, "-c", LISTENER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*command, "127.0.0.1"], start_new_session=True, **pipes) as near,
        subprocess.Popen([*command, "0.0.0.0"], start_new_session=True, **pipes) as far,
    ):
        ports = [process.stdout.readline().strip() for process in (near, far)]

        assert members(near.pid) == [near.pid]
        assert open_addresses([near.pid]) == set()
        assert open_addresses([near.pid, far.pid]) == {f"0.0.0.0:{ports[1]}"}

        end_members(near.pid)
        end_members(far.pid)
        assert (near.wait(), far.wait()) == (-9, -9)
