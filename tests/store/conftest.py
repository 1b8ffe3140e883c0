"""Short trials and results for the store's tests."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.trial import History, Proposal, Result, Trial


def _trial(number: int, **changes: Any) -> Trial:
    values: dict[str, Any] = {
        "number": number,
        "architecture": Architecture(structure={"cells": 2, "wide": True}, operators={"op": "conv3x3", "rate": 0.5}),
        "key": f"key{number}",
        "budget": 1,
        "seed": 7,
        "phase": "structure",
        "turn": 0,
        "bracket": 0,
        "rung": 0,
        "slot": (0, 0, number),
        "parent": None,
        "proposal": Proposal(source="random"),
    }
    return Trial(**{**values, **changes})


def _result(trial: int, score: float | None = 0.5, **changes: Any) -> Result:
    if score is None:
        changes = {"error": "it broke", "error_kind": "exception", **changes}
    return Result(**{"trial": trial, "score": score, "seconds": 2.0, "started": 100.0, "finished": 102.0, **changes})


@pytest.fixture
def trial_of() -> Callable[..., Trial]:
    return _trial


@pytest.fixture
def result_of() -> Callable[..., Result]:
    return _result


@pytest.fixture
def history_from() -> Callable[..., History]:
    """A history of (trial, result or None) pairs, each told as soon as it was asked."""

    def build(*pairs: tuple[Trial, Result | None]) -> History:
        history = History()
        for trial, result in pairs:
            history.asked(trial)
            if result is not None:
                history.told(result)
        return history

    return build


@pytest.fixture
def file_size_limit() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """A real full disk, as far as one file is concerned: the kernel cuts a write short, then refuses the next."""

    @contextlib.contextmanager
    def limit(size_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
