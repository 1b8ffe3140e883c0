"""Every operation that ships, with some of its arguments, in every kind of slot that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import nasflow_cli.nets  # noqa: F401  (registers what ships)
from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.operations import Slot

SHIPPED = [name for name in OPERATIONS if OPERATIONS[name].make.__module__.startswith("nasflow_cli.")]
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "conv": [{"kernel": 5, "groups": 2}, {"kernel": 1, "groups": 4, "dilation": 2}, {"kernel": 7, "dilation": 3}],
    "depthwise": [{"kernel": 5}],
    "mbconv": [{"kernel": 5, "expansion": 3, "se": True}, {"expansion": 1}, {"expansion": 1, "se": True}],
    "bottleneck": [{"kernel": 5, "groups": 4, "ratio": 1.0}, {"groups": 3, "ratio": 0.01}, {"ratio": 1.5}],
    "linear": [{"norm": "layer", "dropout": 0.5}, {"norm": "none"}],
}
WIDTHS = ((4, 4), (4, 6), (5, 1))
SIZES = (8, 7, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An operation with arguments in a slot."""

    name: str
    arguments: dict[str, Any]
    slot: Slot

    def make(self) -> nn.Module:
        module: nn.Module = OPERATIONS[self.name].make(self.slot, **self.arguments)
        return module

    def inputs(self) -> Iterator[Tensor]:
        """Inputs of every size."""
        generator = torch.Generator().manual_seed(0)
        for shape in [()] if self.slot.vectors else [(size, size) for size in SIZES]:
            yield torch.randn(4, self.slot.in_channels, *shape, generator=generator)

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """The shape that is promised for such an input."""
        return 4, self.slot.channels, *(-(-size // self.slot.stride) for size in x.shape[2:])


def slots(takes: str, activation: Callable[[], nn.Module] = nn.SiLU) -> Iterator[Slot]:
    kinds = [(1, False), (2, False)] if takes != "vectors" else []
    kinds += [(1, True)] if takes != "images" else []
    for stride, vectors in kinds:
        for width in WIDTHS:
            for order in ("before", "after"):
                yield Slot(
                    in_channels=width[0],
                    channels=width[1],
                    stride=stride,
                    activation=activation,
                    order=order,
                    vectors=vectors,
                )


def cases(activation: Callable[[], nn.Module] = nn.SiLU) -> dict[str, list[Case]]:
    """The cases of each operation with each of its arguments."""
    return {
        f"{name}({','.join(f'{key}={value}' for key, value in arguments.items())})": [
            Case(name=name, arguments=arguments, slot=slot)
            for slot in slots(OPERATIONS[name].facts.get("takes", "images"), activation)
        ]
        for name in SHIPPED
        for arguments in [{}, *ARGUMENTS.get(name, [])]
    }
