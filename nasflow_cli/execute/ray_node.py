"""A Ray that is started here, for one search alone, or a cluster that is there: what of it trials get.

Refuses a Ray that can be reached from another machine: who reaches it runs code as this user. The only module beside
`bridge.py` that imports Ray; both run in processes that are not the driver's.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nasflow_cli
from nasflow_cli.core.errors import MissingError
from nasflow_cli.execute.boundary import Message
from nasflow_cli.execute.devices import CHILDREN_VARIABLE, share_of_cores
from nasflow_cli.execute.session import members, open_addresses

LONGEST_BASE = 20
"""Longest name of the folder for temporary files: Ray puts sockets below it, whose paths may have 107 bytes."""

STORE_BYTES = 80 * 2**20
"""Of Ray's own store for large values, which nothing here is; it takes no less."""

CONNECT_S = 10.0
"""How long a cluster may take to let itself be called."""

HERE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else it takes the address of the network for its own, whatever it is told, and listens everywhere.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Memory is the business of executor.memory_gib and of the system; no trial is ended for the machine's others.
    "RAY_memory_monitor_refresh_ms": "0",
    # Trials are no less than what runs beside them, as with `local`; Ray would put them last.
    "RAY_worker_niceness": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # Loopback is shared with all users of the machine.
    "RAY_AUTH_MODE": "token",
}
"""Environment of a Ray that is started here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What actors get: how many there are, how many of them on one node at most, and cores and devices of each.

    `environment` is that of their workers; by the id of a node, `on_nodes` has what is different there.
    """

    actors: int
    on_a_node: int
    num_cpus: int
    num_gpus: float
    environment: Mapping[str, str]
    on_nodes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def private_folder() -> Path:
    """Make a folder that only this user can enter. Raises OSError."""
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="nasflow-", dir=base if len(base) <= LONGEST_BASE else "/tmp"))  # noqa: S108


def start(hello: Message) -> Share:
    """Start Ray in this process's session, at 127.0.0.1 alone. Raises MissingError, and whatever Ray raises."""
    folder, environment = Path(hello["folder"]), dict(hello["environment"])
    devices: list[str] = hello["devices"]
    os.environ.update(HERE, RAY_AUTH_TOKEN=secrets.token_hex(32), CUDA_VISIBLE_DEVICES=",".join(devices))
    import ray  # noqa: PLC0415  (heavy, and an extra)

    _init(
        ray,
        address="local",
        num_cpus=hello["actors"],
        num_gpus=len(devices),
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(folder / "ray"),  # Ray makes it writable for all, in a folder that nobody else can enter
    )
    if found := open_addresses([os.getpid(), *members(os.getpid())]):
        raise MissingError(
            f"Ray {ray.__version__} listens at {', '.join(sorted(found))}, where other machines reach it, though it "
            "was told to stay at 127.0.0.1; use another version of Ray, or the executor 'local'"
        )
    per_device = math.ceil(hello["actors"] / len(devices)) if devices else 0
    return Share(
        actors=hello["actors"],
        on_a_node=hello["actors"],
        num_cpus=1,
        num_gpus=fraction(per_device) if devices else 0.0,
        environment=environment,
    )


def connect(hello: Message) -> Share:
    """Connect to the cluster at `address`. Raises MissingError when it has no room, and whatever Ray raises."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address: str = hello["address"]
    if address != "auto":
        call(address)  # Ray itself would go on trying for minutes
    import ray  # noqa: PLC0415

    _init(ray, address=address)
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    share = share_of(nodes, hello["workers"], hello["children_per_device"])
    if share is None:
        raise MissingError(f"the Ray cluster {address} has neither a GPU nor a core for a trial")
    return share


def node_id() -> str:
    """The id of the node that this process, an actor, runs on."""
    import ray  # noqa: PLC0415  (imported by now)

    return str(ray.get_runtime_context().get_node_id())


def call(address: str) -> None:
    """See whether somebody answers at `host:port` or `ray://host:port`. Raises OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


def _init(ray: Any, *, address: str, **options: Any) -> None:
    if not address.startswith("ray://"):
        # Actors are loaded by their name from what is installed on their node; from afar Ray pickles that name.
        code = str(Path(nasflow_cli.__file__).parents[1])
        options["job_config"] = ray.job_config.JobConfig(code_search_path=[code])
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **options)
    except ray.exceptions.RayError as error:
        raise MissingError(f"Ray ({address}) cannot be used: {' '.join(str(error).split())}") from error


def share_of(nodes: Mapping[str, Mapping[str, float]], workers: int | None, children_per_device: int) -> Share | None:
    """Divide a cluster: `children_per_device` actors a GPU, or without any GPU a core each; at most `workers`.

    Each is given as many cores as all can have. Their workers are told how many have their GPU, and share the cores
    of their node as those of a lone machine do: nodes may differ. `nodes` are Ray's resources, by name, by the id of
    the node. None when there is room for no actor.
    """
    with_gpu = {name: node for name, node in nodes.items() if node.get("GPU", 0) >= 1}
    if with_gpu:
        num_devices = sum(int(node["GPU"]) for node in with_gpu.values())
        most = num_devices * children_per_device
        actors = min(most, workers or most)
        per_device = math.ceil(actors / num_devices)
        places = {name: int(node["GPU"]) * per_device for name, node in with_gpu.items()}
        num_cpus = min(_cores(node) // places[name] for name, node in with_gpu.items())
        part, environment = fraction(per_device), {CHILDREN_VARIABLE: str(per_device)}
    else:
        cores = [_cores(node) for node in nodes.values()]
        actors = min(sum(cores), workers or sum(cores))
        if actors == 0:
            return None
        num_cpus = next(n for n in range(max(cores), 0, -1) if sum(each // n for each in cores) >= actors)
        places = {name: _cores(node) // num_cpus for name, node in nodes.items()}
        part, environment = 0.0, {"CUDA_VISIBLE_DEVICES": "", CHILDREN_VARIABLE: "1"}
    held = {name: min(room, actors) for name, room in places.items() if room > 0}
    fullest = max(held.values())
    return Share(
        actors=actors,
        on_a_node=fullest,
        num_cpus=num_cpus,
        num_gpus=part,
        environment={**environment, **share_of_cores(num_cpus * fullest, fullest)},
        on_nodes={name: share_of_cores(_cores(nodes[name]), num) for name, num in held.items()},
    )


def _cores(node: Mapping[str, float]) -> int:
    return int(node.get("CPU", 0))


def fraction(per_device: int) -> float:
    """The part of a device of which so many fit: Ray counts in ten-thousandths, and rounds."""
    return math.floor(10_000 / per_device) / 10_000
