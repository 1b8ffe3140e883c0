"""What is counted for a cluster is counted by its nodes, and not by the machine of the driver. Needs no Ray."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Watcher, write_config

from nasflow_cli import assemble
from nasflow_cli.execute.devices import NEIGHBOURS_VARIABLE
from nasflow_cli.execute.inline import InlineExecutor
from nasflow_cli.execute.protocol import Handler
from nasflow_cli.search import Stop
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.worker import opened
from nasflow_cli.train.worker_data import worker_setup

ON_A_CLUSTER = {"kind": "ray", "workers": 3, "ray": {"address": "127.0.0.1:9"}}


@pytest.mark.parametrize(("told", "counted"), [("7", 7), (None, 1)])
def test_a_worker_shares_memory_and_cores_with_those_of_its_own_machine_whatever_the_experiment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, counted: int
) -> None:
    monkeypatch.delenv(NEIGHBOURS_VARIABLE, raising=False)
    if told is not None:
        monkeypatch.setenv(NEIGHBOURS_VARIABLE, told)
    config = assemble.load(write_config(tmp_path / "tiny.yaml", executor=ON_A_CLUSTER), [])

    (known, _, _) = opened(worker_setup(config, RunDirectory(tmp_path / "run")))

    assert known.executor.workers == counted


@pytest.mark.parametrize(("workers", "is_stored"), [(10**6, True), (1, False)])
def test_data_is_stored_beforehand_where_so_many_workers_as_a_node_has_cannot_each_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, is_stored: bool
) -> None:
    class Node(InlineExecutor):
        slots_a_machine = workers

    def never() -> Handler:
        pytest.fail("no trial is run here")

    monkeypatch.setattr("nasflow_cli.assemble.require_ray", lambda *, starts: None)
    monkeypatch.setattr("nasflow_cli.assemble.make_executor", lambda config, run: Node(never, lambda: 0.0))
    config = write_config(tmp_path / "tiny.yaml", executor=ON_A_CLUSTER)
    experiment = assemble.check(assemble.load(config, []))
    run = assemble.new_run(experiment, config, tmp_path / "run")

    with assemble.open_search(experiment, run, Watcher(), Stop()):
        assert list(run.data.rglob("examples.bin")) != [] if is_stored else not run.data.exists()
