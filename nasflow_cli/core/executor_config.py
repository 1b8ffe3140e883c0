"""The `executor:` section of an experiment: where trials run. Refuses settings of an executor that is not played."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from nasflow_cli.core.named import Names, name_in
from nasflow_cli.core.registry import EXECUTORS
from nasflow_cli.core.space_config import Section

_ADDRESS = re.compile(r"(?:ray://)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")

LAST_PORT = 2**16 - 1
"""The largest port of TCP."""


def _is_address(address: str | None) -> str | None:
    if address is None or address == "auto":
        return address
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"{address!r} is no address of a Ray cluster; write auto, host:port or ray://host:port")
    if not 1 <= int(address.rpartition(":")[2]) <= LAST_PORT:
        raise ValueError(f"{address!r} is no address of a Ray cluster; its port is a number from 1 to {LAST_PORT}")
    return address


class RayConfig(Section):
    """The Ray cluster of the executor `ray`."""

    address: Annotated[str | None, AfterValidator(_is_address)] = Field(
        default=None,
        description="None: a Ray of its own is started for the search, on this machine and at 127.0.0.1 alone, and "
        "ended with it. Else a cluster that is there: `auto` is the one that this machine belongs to, `host:port` one "
        "of which this machine is a node, `ray://host:port` any that runs Ray's client server. Its nodes must see the "
        "run directory and the data at the same paths as this machine, and have the same versions of nasflow, Ray and "
        "Python.",
    )


def _ray_where_played(ray: RayConfig | None, info: ValidationInfo) -> RayConfig | None:
    kind = info.data.get("kind", "ray")  # a kind that is missing has a mistake of its own
    if ray is not None and kind != "ray":
        raise ValueError(f"the executor {kind!r} uses no Ray; write `kind: ray`, or remove this section")
    return ray


class ExecutorConfig(Section):
    """Where trials run."""

    kind: Annotated[str, name_in(EXECUTORS), Names(registry=EXECUTORS)] = "local"
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Worker processes, at most 1024 on a machine; None fills it, or the Ray cluster. On a cluster: at "
        "most so many. Those of one machine, or node of a cluster, share its cores as threads (the cores that Ray "
        "counts there).",
    )
    children_per_device: int = Field(
        default=1,
        ge=1,
        description="Workers on each device (GPU), at most 512, for networks that do not fill one. Each may fill an "
        "equal part of its memory with tensors, less 0.5 GiB for what else a process takes of it. A trial that needs "
        "more is tried again with half batches, then fails; the others go on. The metric `device_memory_mib` of a "
        "trial (`nasflow show`) is the most that its worker's tensors took, the data included: it says how many fit.",
    )
    trial_time_limit_s: float | None = Field(
        default=None, gt=0, description="A trial over this is ended and counts as failed."
    )
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        description="Most memory that a worker may take for its data and its trial, in GiB, beside the program itself "
        "(0.2 to 0.5 GiB) and what is on a device. A trial that needs more fails, and its worker goes on. Kept by the "
        "executors `local` and `ray`, on Linux.",
    )
    data_gib: float | None = Field(
        default=None,
        ge=0,
        description="Most data that a worker holds on its device or in memory, in GiB, decoded. More than that is "
        "decoded once into a file in the run directory, which all workers share, and streamed from there. null: a "
        "quarter of the machine's memory, or of what a container or a batch system leaves of it, over the workers (and "
        "of `memory_gib`), on a GPU at most half of its memory over its children. Never more than 16.",
    )
    loaders: int | None = Field(
        default=None,
        ge=0,
        description="Processes of each worker that read streamed data ahead, at most 256; 0: the worker reads itself. "
        "null: none on the CPU, where they would only take cores from training; on a GPU one, or two where each worker "
        "has four cores.",
    )
    grace_s: float = Field(
        default=20.0, ge=0, description="Seconds that running trials get to checkpoint after a signal."
    )
    ray: Annotated[RayConfig | None, AfterValidator(_ray_where_played)] = Field(
        default=None, description="For the kind `ray` alone, which needs `pip install 'nasflow[cluster]'`."
    )

    @property
    def cluster(self) -> str | None:
        """The address of the cluster that trials run on, if it is one that is there already."""
        return None if self.ray is None else self.ray.address
