"""Makes `contracts` importable, and gives tests a pipe by which a worker tells where it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_worker import Bench
from signpost import Signpost

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture
def signpost(tmp_path: Path) -> Iterator[Signpost]:
    post = Signpost(tmp_path / "signpost")
    yield post
    post.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.executor:
        yield bench
