"""Stand-ins for what `nets` registers, so that spaces can be described here without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest
from described_spaces import ACTIVATION_NAMES, FACTS, INITIALISER_NAMES

from nasflow_cli.core.registry import ACTIVATIONS, INITIALISERS, OPERATIONS, Entry


def mbconv(slot: object, *, kernel: int = 3, expansion: int = 6, se: bool = False) -> None: ...


def conv(slot: object, *, kernel: int = 3, groups: int = 1, dilation: int = 1) -> None: ...


MAKERS = {"mbconv": mbconv, "conv": conv}


@pytest.fixture(autouse=True, scope="module")
def stand_ins() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for registry, facts in (
            (OPERATIONS, {name: asdict(fact) for name, fact in FACTS.items()}),
            (ACTIVATIONS, {name: {} for name in ACTIVATION_NAMES}),
            (INITIALISERS, {name: {} for name in INITIALISER_NAMES}),
        ):
            entries = {
                name: Entry(name=name, make=MAKERS.get(name, object), facts=declared)
                for name, declared in facts.items()
            }
            patch.setattr(registry, "_entries", entries)
        yield
