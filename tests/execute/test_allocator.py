"""What a worker frees stays its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from nasflow_cli.execute.allocator import keep_freed_memory
{first}
libc, size = ctypes.CDLL(None), ctypes.c_size_t(1 << 26)
libc.malloc.restype = ctypes.c_void_p
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(size))
    libc.memset(block, 1, size)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def page_faults(first: str) -> int:
    """Faults of filling a block of 64 MiB where one has just been freed, after the line `first`."""
    program = [sys.executable, "-c", PROGRAM.format(first=first)]
    return int(subprocess.run(program, capture_output=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of glibc")
def test_memory_that_was_freed_is_not_fetched_from_the_kernel_again() -> None:
    assert page_faults("keep_freed_memory()") < 10 < page_faults("")
