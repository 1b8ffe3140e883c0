"""The engine on made-up spaces and objectives: nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasflow_cli.optim import proposals

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(autouse=True, scope="module")
def impatience() -> Iterator[None]:
    """The spaces here are so small that a few hundred draws tell whether anything is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposals, "MAX_ROUNDS", 10)
        yield
