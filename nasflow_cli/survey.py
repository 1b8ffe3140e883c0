"""What a space holds: the sizes of its halves, ranges of costs, samples, and a drawing. Trains nothing, writes nothing.

Members are sampled uniformly, setting by setting; those that break a constraint are shown as what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_size import Members, count_members
from nasflow_cli.draw.network import network_svg
from nasflow_cli.nets.constraints import Constraints
from nasflow_cli.nets.cost import Cost
from nasflow_cli.nets.operations import operation_facts

NUM_SAMPLES = 200
"""Members that ranges and shares are measured on."""

MEASURES = ("params", "flops", "depth", "activation_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One member. `broken` says in words why it may not be trained; empty where it may."""

    architecture: Architecture
    graph: NetworkGraph
    key: str
    cost: Cost
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The least, the middle and the greatest number of some samples."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """`sizes` and numbers of `parameters` are of structure and operators.

    `ranges` are of the samples that may be trained, and empty where there is none.
    """

    sizes: tuple[int | None, int | None]
    parameters: tuple[int, int]
    members: Members
    samples: tuple[Sample, ...]
    ranges: dict[str, Range]

    @property
    def feasible_share(self) -> float:
        """Share of the samples that may be trained."""
        return sum(not sample.broken for sample in self.samples) / len(self.samples)

    @property
    def distinct_share(self) -> float:
        """Share of the samples that are different computations."""
        return len({sample.key for sample in self.samples}) / len(self.samples)


def survey(
    config: ExperimentConfig, input_shape: Sequence[int], num_classes: int, num_samples: int = NUM_SAMPLES
) -> Survey:
    """Look at the space of an experiment. Raises ConfigError for an operation that gives a wrong shape."""
    space = SearchSpace(config.space, operation_facts())
    constraints = Constraints(config.space.constraints, input_shape, num_classes)
    samples = tuple(_sample(space, constraints, config.seed, number) for number in range(num_samples))
    structure, operators = space.half("structure"), space.half("operators")
    fit = [sample.cost for sample in samples if not sample.broken]
    return Survey(
        sizes=(space.size("structure"), space.size("operators")),
        parameters=(len(structure), len(operators)),
        members=count_members(space, generator(config.seed, num_samples, Purpose.SURVEY)),
        samples=samples,
        ranges={name: _range([getattr(cost, name) for cost in fit]) for name in MEASURES if fit},
    )


def _sample(space: SearchSpace, constraints: Constraints, seed: int, number: int) -> Sample:
    architecture, graph = space.sample_member(generator(seed, number, Purpose.SURVEY))
    broken = [graph.fault] if graph.fault else [str(violation) for violation in constraints.violations(graph)]
    return Sample(
        architecture=architecture,
        graph=graph,
        key=graph.key(),
        cost=constraints.cost(graph),
        broken=tuple(broken),
    )


def _range(values: Sequence[float]) -> Range:
    return Range(low=min(values), median=median(values), high=max(values))


def drawing(sample: Sample, title: str) -> str:
    """An SVG picture of a member."""
    about = sample.cost
    notes = [f"{about.params:,} parameters, {about.flops:,} FLOPs (2 per multiply-add), key {sample.key}"]
    return network_svg(sample.graph, title, [*notes, *sample.broken])
