"""Control groups as the kernel shows them, in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path


class Groups:
    """Writes what /proc/self says of groups, and the files of the groups themselves."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.seen = folder / "fs with a blank"
        self.proc.mkdir()
        self.seen.mkdir()
        (self.proc / "cgroup").touch()
        (self.proc / "mountinfo").write_text("23 1 0:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n")

    def unified(self, group: str, root: str = "/") -> Path:
        """Put this process into a group of version 2; return the place at which `root` is seen."""
        return self._mount("0::", group, root, "cgroup2 cgroup2 rw,nsdelegate")

    def legacy(self, controllers: str, group: str, root: str = "/") -> Path:
        """Put this process into a group of version 1 for some controllers."""
        return self._mount(f"4:{controllers}:", group, root, f"cgroup cgroup rw,{controllers}", controllers)

    def _mount(self, line: str, group: str, root: str, kind: str, name: str = "unified") -> Path:
        place = self.seen / name
        place.mkdir()
        with (self.proc / "cgroup").open("a") as file:
            file.write(f"{line}{group}\n")
        with (self.proc / "mountinfo").open("a") as file:
            file.write(f"36 31 0:33 {root} {str(place).replace(' ', chr(92) + '040')} rw,relatime shared:9 - {kind}\n")
        return place


def write(folder: Path, **files: str) -> None:
    """Write files of a group, which is made if need be; an underscore stands for the first dot of a name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")
