"""What the workers of these tests run. `build` makes a handler that does what the payload's `do` says."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nasflow_cli.core.interrupt import Interrupted
from nasflow_cli.execute.log import KEPT_BYTES, MAX_BYTES

ShouldStop = Callable[[], bool]

THREADS_AT_IMPORT = os.environ.get("OMP_NUM_THREADS")


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


class DivergedError(Exception):
    error_kind = "nan"


def build(setup: Mapping[str, Any]) -> Callable[[dict[str, Any], ShouldStop], dict[str, Any]]:
    calls = 0

    def handle(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if payload["do"] == "tell":
            return {"calls": calls, "pid": os.getpid(), "setup": dict(setup), "threads": THREADS_AT_IMPORT}
        return ACTS[payload["do"]](payload, should_stop)

    return handle


def fail_to_build(setup: Mapping[str, Any]) -> Callable[[dict[str, Any], ShouldStop], dict[str, Any]]:
    raise FileNotFoundError(f"no data set at {setup['path']}")


def echo(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    return {"got": payload["value"], "asked_to_stop": should_stop()}


def variable(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Tell a variable of the environment, and when asked wait until somebody has opened the signpost."""
    _announce(payload)
    return {"got": os.environ.get(payload["name"])}


def wrong_value(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    raise KeyError("first line\nsecond line")


def system_exit(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    sys.exit("no such data")


def out_of_memory(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    raise {
        "builtin": MemoryError(),
        "class": OutOfMemoryError("tried to allocate 2 GiB"),
        "cuda": RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        "onednn": RuntimeError("could not create a primitive"),
        "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    }[payload["how"]]


def allocate(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    return {"got": len(bytearray(payload["bytes"])), "pid": os.getpid()}


def fill_the_disk(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Reach the limit that the system has set for the size of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with open(payload["path"], "wb", buffering=0) as file:
            file.write(b"0123456789")
            file.write(b"one byte too many")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return {}


def diverge(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    raise DivergedError("the loss is not a number")


def break_device(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    raise RuntimeError("CUDA error: device-side assert triggered")


def interrupt(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    raise Interrupted


def not_an_object(payload: dict[str, Any], should_stop: ShouldStop) -> Any:
    return [1, 2]


def not_json(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    return {"set": {1, 2}}


def train(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Go on until told to stop, then stop safely."""
    _announce(payload)
    while not should_stop():
        sum(range(1000))
    raise Interrupted


def train_to_the_end(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Be done just when told to stop."""
    _announce(payload)
    while not should_stop():
        sum(range(1000))
    return {"done": True}


def tell_in_the_end(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Tell variables of the environment just when told to stop."""
    train_to_the_end(payload, should_stop)
    return {"got": [os.environ.get(name) for name in payload["names"]]}


def hang(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Never look at `should_stop`."""
    _announce(payload)
    signal.pause()
    return {}


def hang_within_reach_of_sigterm(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Let SIGTERM end this process again, as a library may that sets handlers of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return hang(payload, should_stop)


def hang_unwatched_by_the_kernel(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Take back what has the kernel kill this process with its parent (PR_SET_PDEATHSIG 0)."""
    ctypes.CDLL(None).prctl(1, ctypes.c_ulong(0), 0, 0, 0)
    return hang(payload, should_stop)


def die_with_a_child_left(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Leave a child that has inherited every descriptor of the worker, as a data loader's has."""
    if os.fork() == 0:
        while os.getppid() != 1:  # until the worker is gone
            pass
        _announce(payload)
        signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def exit_now(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    os._exit(3)


def chatter(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    for _ in range(payload["lines"]):
        print("x" * 1023)
    return {}


def chatter_until_shortened(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    """Print until somebody has put a remark into the log."""
    print("first words")
    printed = 0
    while b"left out here" not in os.pread(1, 100, KEPT_BYTES):
        printed += os.write(1, b"x" * 65_535 + b"\n")
        assert printed < 2**30, "nobody looks after the log"
    while os.fstat(1).st_size > MAX_BYTES:
        pass  # the notice is there before the end is: what is written in the moment of the cut is lost
    print("last words")
    return {"printed": printed}


def speak(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    print(f"python {payload['word']}")
    print(f"error {payload['word']}", file=sys.stderr)
    os.write(1, f"descriptor {payload['word']}\n".encode())
    subprocess.run(["echo", "child", payload["word"]], check=True)
    return {}


def speak_and_die(payload: dict[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    print("last words")
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def _announce(payload: dict[str, Any]) -> None:
    """Write the process id to the signpost, and keep that open until this process ends."""
    if "signpost" in payload:
        end = os.open(payload["signpost"], os.O_WRONLY)
        os.write(end, f"{os.getpid()}\n".encode())


ACTS = {name: act for name, act in list(globals().items()) if callable(act) and not name.startswith("_")}
