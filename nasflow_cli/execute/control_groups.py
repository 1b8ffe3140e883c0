"""What control groups leave to this process: memory, and time on cores. Linux only; elsewhere nothing is limited.

Containers, batch systems and systemd set such limits, each on a group of its own, one inside the other: all of them
hold, so all are read, from the group of this process up to the outermost that is seen here. Both versions of control
groups are read, also side by side (cgroups(7); `memory.max` and `cpu.max` in the kernel's admin-guide/cgroup-v2,
`memory.limit_in_bytes` in cgroup-v1/memory, `cpu.cfs_quota_us` in scheduler/sched-bwc). Refuses to change any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")
"""Where the kernel says to which groups this process belongs (`cgroup`), and where they are seen (`mountinfo`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    """A place where groups are seen: of these controllers, or of all in version 2; `root` is the group at its top."""

    controllers: frozenset[str] | None
    root: PurePosixPath
    place: Path


def memory_allowed(proc: Path = PROC) -> int | None:
    """Bytes of memory that the groups of this process may take, the smallest limit of all; None: no limit."""
    limits = (_number(folder / name) for folder, name in _files(proc, "memory", "memory.max", "memory.limit_in_bytes"))
    return min((limit for limit in limits if limit is not None), default=None)


def cores_allowed(proc: Path = PROC) -> float | None:
    """Seconds of processor time that the groups of this process get a second, the least of all; None: no limit."""
    shares = (_share(folder, name) for folder, name in _files(proc, "cpu", "cpu.max", "cpu.cfs_quota_us"))
    return min((share for share in shares if share is not None), default=None)


def _share(folder: Path, name: str) -> float | None:
    words = _words(folder / name)
    if name == "cpu.cfs_quota_us":
        words += _words(folder / "cpu.cfs_period_us")
    try:
        quota, period = map(int, words)
    except ValueError:  # "max", or a file that is not there
        return None
    return quota / period if quota > 0 and period > 0 else None  # -1: no limit, in version 1


def _number(file: Path) -> int | None:
    words = _words(file)
    return int(words[0]) if words and words[0].isdecimal() else None


def _words(file: Path) -> list[str]:
    """What stands in a file, word by word; nothing where it cannot be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


def _files(proc: Path, controller: str, unified: str, legacy: str) -> Iterator[tuple[Path, str]]:
    """The folders of all groups of this process, and the name of the file in each that has the limit."""
    groups = dict(_groups(proc))
    for mount in _mounts(proc):
        if mount.controllers is None:
            group, name = groups.get(""), unified
        else:
            group, name = groups.get(controller), legacy
        if group is None or (mount.controllers is not None and controller not in mount.controllers):
            continue
        # A group that lies outside of what is seen here has only the top in common with it.
        inside = group.relative_to(mount.root) if group.is_relative_to(mount.root) else PurePosixPath()
        folder = mount.place / inside
        yield folder, name
        yield from ((folder.parents[n], name) for n in range(len(inside.parts)))


def _groups(proc: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """The group of this process under each controller; that of version 2 is under no name."""
    for line in _lines(proc / "cgroup"):
        _, controllers, path = line.split(":", 2)
        yield from ((controller, PurePosixPath(path)) for controller in controllers.split(","))


def _mounts(proc: Path) -> Iterator[_Mount]:
    for line in _lines(proc / "mountinfo"):
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.partition(" ")
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, place = (_plain(field) for field in head.split(" ")[3:5])
        controllers = None if kind == "cgroup2" else frozenset(options.split(" ")[-1].split(","))
        yield _Mount(controllers=controllers, root=PurePosixPath(root), place=Path(place))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _plain(field: str) -> str:
    r"""A path of mountinfo, in which a blank is written `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
