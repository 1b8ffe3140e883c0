"""Links under the final trainings of a run, which lie one folder deeper than the trials of its search."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.store.links import refuse_links
from nasflow_cli.store.run_directory import RunDirectory


@pytest.mark.parametrize("name", ["trial0-epochs3", "trial0-epochs3/seed0", "trial0-epochs3/seed0/result.json"])
def test_a_link_at_any_depth_of_the_final_trainings_is_refused(tmp_path: Path, name: str) -> None:
    link = RunDirectory(tmp_path).final / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RunDirectoryError, match="is a symbolic link"):
        refuse_links(RunDirectory(tmp_path))
