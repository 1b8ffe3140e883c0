"""Numbers that cannot be meant are refused; those that may be meant are kept, some with a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.plausible import implausible, notes

Load = Callable[..., ExperimentConfig]

RAY = "executor.kind=ray"
CLUSTER = "executor.ray={address: auto}"


@pytest.mark.parametrize(
    ("options", "place", "says"),
    [
        (["executor.workers=1025"], ("executor", "workers"), "1025 workers are more than the 1024 that one machine"),
        ([RAY, "executor.workers=1025"], ("executor", "workers"), "1025 workers are more than the 1024"),
        ([RAY, CLUSTER, "executor.workers=100001"], ("executor", "workers"), "more than the 100000 that a cluster"),
        (["executor.children_per_device=513"], ("executor", "children_per_device"), "for 513 processes"),
        (["executor.loaders=257"], ("executor", "loaders"), "257 processes for each worker"),
        (
            ["training.warmup_epochs=9.5"],
            ("training", "warmup_epochs"),
            "for 9.5 epochs, and no trial is longer than 9",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(
    load: Load, experiment: str, options: list[str], place: tuple[str, ...], says: str
) -> None:
    ((where, message),) = implausible(load(experiment, *options))

    assert where == place
    assert says in message


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["executor.workers=1024", "executor.children_per_device=512", "executor.loaders=256"],
        [RAY, CLUSTER, "executor.workers=100000"],
        ["training.warmup_epochs=9"],
    ],
)
def test_what_a_user_of_large_machines_may_mean_is_kept(load: Load, experiment: str, options: list[str]) -> None:
    assert list(implausible(load(experiment, *options))) == []


SOUND: dict[str, Any] = {"num_train": 128, "is_streamed": True, "num_workers": 2, "num_cores": 2}


@pytest.mark.parametrize(
    ("option", "about", "says"),
    [
        ("training.batch_size=129", {}, "training.batch_size: 129 is more than the 128 training examples"),
        ("training.warmup_epochs=2", {}, "training.warmup_epochs: the learning rate still rises when the shortest"),
        ("seed=3", {"num_workers": 3}, "executor: 3 workers share 2 cores"),
        ("seed=3", {"num_cores": 1}, "executor: 2 workers share 1 core"),
        ("executor.loaders=2", {}, "executor.loaders: 4 processes in all read data ahead on 2 cores"),
    ],
)
def test_what_may_be_meant_and_seldom_is_gets_a_note(
    load: Load, experiment: str, option: str, about: dict[str, Any], says: str
) -> None:
    (note,) = notes(load(experiment, option), **{**SOUND, **about})

    assert note.startswith(says)


@pytest.mark.parametrize(
    ("option", "about"),
    [
        ("seed=3", {}),
        ("executor.loaders=1", {}),
        ("executor.loaders=200", {"is_streamed": False}),
        ("training.batch_size=129", {"num_train": None}),
    ],
)
def test_what_is_sound_gets_none(load: Load, experiment: str, option: str, about: dict[str, Any]) -> None:
    assert notes(load(experiment, option), **{**SOUND, **about}) == ()
