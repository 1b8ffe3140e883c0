"""The processes of one session of the operating system: find them, end them, see where they listen. Linux only.

A process leads a session after `os.setsid`, and all that it starts belong to it, whoever their parents are and whether
these still live. Refuses to guess: what has left the session is not found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

PATIENCE_S = 5.0
"""How long processes may take to vanish after they were killed."""

LISTENING = "0A"
"""The state of a socket in /proc/net/tcp that takes connections (include/net/tcp_states.h)."""


def members(session: int) -> list[int]:
    """The processes of a session that live, this one not among them. Empty where the system does not say."""
    return [pid for pid in _processes() if pid != os.getpid() and _parent_and_session(pid)[1] == session]


def children(session: int, parents: Collection[int]) -> list[int]:
    """Those members of a session that one of these processes has started, and that live."""
    return [pid for pid in members(session) if _parent_and_session(pid)[0] in parents]


def end_members(session: int) -> None:
    """Kill all processes of a session but this one, those included that they start meanwhile."""
    end = time.monotonic() + PATIENCE_S
    while (alive := members(session)) and time.monotonic() < end:
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def program_of(pid: int) -> str:
    """The name of the program that a process runs; empty where the system does not say."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name
    except OSError:
        return ""


def open_addresses(pids: Sequence[int]) -> set[str]:
    """Addresses `host:port` that are not of this machine alone, at which one of these processes takes connections."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for local, state, inode in _rows(table):
            host, _, port = local.partition(":")
            address = _address(host)
            if state == LISTENING and inode in inodes and not address.is_loopback:
                found.add(f"{address}:{int(port, 16)}")
    return found


def _processes() -> Iterator[int]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    yield from (int(name) for name in names if name.isdecimal())


def _parent_and_session(pid: int) -> tuple[int | None, int | None]:
    """The parent and the session of a process that lives; None for one that has ended or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, None
    # The name stands in brackets and may itself hold some; then state, parent, group, session.
    state, parent, _, session = stat.rpartition(")")[2].split()[:4]
    return (None, None) if state in ("Z", "X") else (int(parent), int(session))


def _sockets(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{name}")
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]


def _rows(table: str) -> Iterator[tuple[str, str, str]]:
    """Local address, state and inode of every socket."""
    try:
        lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for fields in map(str.split, lines):
        yield fields[1], fields[3], fields[9]


def _address(text: str) -> IPv4Address | IPv6Address:
    """Read an address of /proc/net/tcp: 32-bit words in the order of the machine."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    address = ip_address(b"".join(words))
    return getattr(address, "ipv4_mapped", None) or address
