"""A Ray cluster that is not the executor's: a process of its own, at 127.0.0.1, with as many cores as a test says.

It ends with the tests, however they end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

from nasflow_cli.execute.ray_node import private_folder
from nasflow_cli.execute.session import end_members

MANNERS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",  # else all else on a busy machine comes first
}
"""Environment of the cluster, and of who connects to it."""

PATIENCE_S = 300.0
"""How long the cluster may take to start."""

CLUSTER = """
import os, sys
import ray
from nasflow_cli.execute.session import end_members

end = int(sys.argv[4])
context = ray.init(
    address="local", num_cpus=int(sys.argv[2]), num_gpus=int(sys.argv[3]), include_dashboard=False,
    _node_ip_address="127.0.0.1", _temp_dir=sys.argv[1] + "/ray", log_to_driver=False, object_store_memory=80 * 2**20,
)
os.write(end, context.address_info["gcs_address"].encode())
os.close(end)
sys.stdin.read()  # until who started this is gone
end_members(os.getpid())
os._exit(0)
"""


@contextmanager
def cluster(num_cpus: int = 2, num_gpus: int = 0) -> Iterator[str]:
    """Start it and give its address."""
    folder = private_folder()
    theirs, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, folder, str(num_cpus), str(num_gpus), str(ours)],
        env={**os.environ, **MANNERS},
        pass_fds=(ours,),
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(ours)
        assert wait([theirs], PATIENCE_S), "the cluster did not start in time"
        address = os.read(theirs, 4096).decode()
        assert address, "the cluster ended before it had an address"
        yield address
    finally:
        os.close(theirs)
        end_members(process.pid)
        process.kill()
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)
