"""What a candidate has to satisfy before it may be trained, and by how much it fails. Trains nothing.

Bounds on the cost, on measures of a user's own (`MEASURES.register`), and on latency, which is measured last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from statistics import median

import torch

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.registry import MEASURES
from nasflow_cli.core.space_config import ConstraintsConfig, Limits
from nasflow_cli.nets.builder import build
from nasflow_cli.nets.cost import Cost, cost

LATENCY_RUNS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken bound: the measure's `name`, its `value`, and the `bound` that it is `below` or above."""

    name: str
    value: float
    bound: float
    below: bool

    @property
    def distance(self) -> float:
        """How far off, as a share of the bound."""
        return abs(self.value - self.bound) / max(abs(self.bound), 1.0)

    def __str__(self) -> str:
        """In words."""
        side = "below" if self.below else "above"
        return f"{self.name} {_number(self.value)} is {side} {_number(self.bound)}"


class Constraints:
    """The constraints of one experiment, on examples of `input_shape` with so many classes."""

    def __init__(
        self,
        config: ConstraintsConfig,
        input_shape: Sequence[int],
        num_classes: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config = config
        self.input_shape = tuple(input_shape)
        self.num_classes = num_classes
        self.clock = clock

    def cost(self, graph: NetworkGraph) -> Cost:
        """What a member costs."""
        return cost(graph, self.input_shape, self.num_classes)

    def violations(self, graph: NetworkGraph) -> list[Violation]:
        """Every bound that a network breaks; the latency is measured only where nothing else is broken.

        Raises ConfigError when a user's measure gives no number.
        """
        broken = [violation for violation in self._cheap(graph) if violation is not None]
        limits = self.config.latency_ms
        if not broken and (limits.min is not None or limits.max is not None):
            network = build(graph, self.input_shape, self.num_classes, seed=0)
            broken += [v for v in [_broken("latency_ms", limits, self.latency_ms(network))] if v is not None]
        return broken

    def _cheap(self, graph: NetworkGraph) -> Iterator[Violation | None]:
        config, about = self.config, self.cost(graph)
        yield _broken("params", config.params, about.params)
        yield _broken("flops", config.flops, about.flops)
        yield _broken("depth", config.depth, about.depth)
        yield _broken("activation_bytes", config.activation_bytes, about.activation_bytes)
        for name, limits in config.measures.items():
            value = MEASURES[name].make(graph, self.input_shape, self.num_classes)
            if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
                raise ConfigError(f"space.constraints.measures.{name}: the measure gave {value!r}, which is no number")
            yield _broken(name, limits, value)

    def latency_ms(self, network: torch.nn.Module) -> float:
        """Median time of a forward pass of one example on the CPU with one thread, in milliseconds."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return median(self._times_ms(network.eval()))
        finally:
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def _times_ms(self, network: torch.nn.Module) -> list[float]:
        """Times of several passes, behind one that is not counted."""
        example, times = torch.zeros(1, *self.input_shape), []
        network(example)
        for _ in range(LATENCY_RUNS):
            began = self.clock()
            network(example)
            times.append(1000 * (self.clock() - began))
        return times


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _broken(name: str, limits: Limits, value: float) -> Violation | None:
    if limits.min is not None and value < limits.min:
        return Violation(name=name, value=float(value), bound=limits.min, below=True)
    if limits.max is not None and value > limits.max:
        return Violation(name=name, value=float(value), bound=limits.max, below=False)
    return None
