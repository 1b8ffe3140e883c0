"""The `space:` section: how a user describes a space of networks. What follows from it is in `space`.

A network is a stem, stages of repeated cells, and a head. A cell is a small directed graph; an operation stands on each
of its nodes, or on each of its edges. Structure: how many cells and nodes, how wide, which node feeds which. Operators:
which operation, activation and initialisation stands in each slot (GNAS, sections 3.1 and 3.2). docs/search-space.md
explains the language by its uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from nasflow_cli.core.domain import Domain, DomainField, parse_domain
from nasflow_cli.core.graph import Order
from nasflow_cli.core.named import Names
from nasflow_cli.core.operation_set import Mistakes, Operations, refuse
from nasflow_cli.core.registry import ACTIVATIONS, INITIALISERS, MEASURES, OPERATIONS, Registry, nearest

MAX_NODES = 32
MAX_READS = 8
MAX_DEPTH = 256


class Section(BaseModel):
    """A closed, frozen part of an experiment: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _registered(registry: Registry[object]) -> BeforeValidator:  # type: ignore[type-var]
    def check(raw: object) -> Domain:
        domain = parse_domain(raw)
        if not domain.choices:
            raise ValueError(f"name the choices of this {registry.kind}")
        unknown: Mistakes = [
            (where, registry.unknown(str(choice)))
            for where, choice in _placed(raw)
            if not isinstance(choice, str) or choice not in registry
        ]
        if unknown:
            refuse(unknown)
        return domain

    return BeforeValidator(check)


def _placed(raw: object) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """The choices of a domain as YAML gives it, each with its place inside it."""
    if isinstance(raw, Domain):
        yield from (((), choice) for choice in raw.choices)
    elif isinstance(raw, dict):
        yield from ((("choices", i), choice) for i, choice in enumerate(raw["choices"]))
    elif isinstance(raw, list):
        yield from (((i,), choice) for i, choice in enumerate(raw))
    else:
        yield (), raw


def _operation(name: str) -> str:
    if name not in OPERATIONS:
        raise ValueError(OPERATIONS.unknown(name))
    return name


def _weighted(name: str) -> str:
    if not OPERATIONS[_operation(name)].facts.get("weighted"):
        raise ValueError(
            f"{name!r} has no weights, so it cannot change the number of channels; take one that is registered with "
            "`weighted=True`, such as 'conv3x3'"
        )
    return name


def _stride(raw: object) -> object:
    if isinstance(raw, (bool, float)):
        raise ValueError("1 or 2 is wanted here")  # noqa: TRY004  (pydantic takes true and 1.0 for 1)
    return raw


def _edges(raw: object) -> object:
    if raw not in ("free", "all", "chain") and not (type(raw) is int and 1 <= raw <= MAX_READS):
        raise ValueError(
            f"'free', 'all', 'chain', or how many values each node reads (1 to {MAX_READS}) is wanted here"
        )
    return raw


def _whole_from(low: int) -> AfterValidator:
    def check(domain: Domain) -> Domain:
        values = domain.choices or (domain.low, domain.high)
        if domain.kind == "float" or any(
            type(v) is bool or not isinstance(v, (int, float)) or not float(v).is_integer() or v < low for v in values
        ):
            raise ValueError(f"whole numbers of at least {low} are wanted here")
        return domain

    return AfterValidator(check)


def _truth(domain: Domain) -> Domain:
    if not domain.choices or any(type(v) is not bool for v in domain.choices):
        raise ValueError("true, false or [true, false] is wanted here")
    return domain


AnyOperation = Annotated[str, AfterValidator(_operation), Names(registry=OPERATIONS)]
WeightedOperation = Annotated[str, AfterValidator(_weighted), Names(registry=OPERATIONS, fact="weighted")]
Activations = Annotated[DomainField, _registered(ACTIVATIONS), Names(registry=ACTIVATIONS)]
Initialisations = Annotated[DomainField, _registered(INITIALISERS), Names(registry=INITIALISERS)]
Count = Annotated[DomainField, _whole_from(1)]
Truth = Annotated[DomainField, AfterValidator(_truth)]
Stride = Annotated[Literal[1, 2], BeforeValidator(_stride)]
Edges = Annotated[Literal["free", "all", "chain"] | int, BeforeValidator(_edges)]
Granularity = Literal["network", "stage", "slot"]
Sharing = Literal["network", "stage", "layer"]


class ProjectConfig(Section):
    """What the inputs of a cell pass through before its nodes read them."""

    operation: WeightedOperation = "conv1x1"
    per: Literal["cell", "edge"] = Field(
        default="cell",
        description="Once for each input of the cell, or anew on each edge that leaves an input.",
    )


class CellConfig(Section):
    """A cell: a graph of `nodes` nodes over its inputs, with one operation in each slot."""

    nodes: Count = Field(description="Number of nodes after the inputs.")
    inputs: Annotated[Literal[1, 2], BeforeValidator(_stride)] = Field(
        default=1, description="What the cell reads: the cell before it, or the two before it."
    )
    edges: Edges = Field(
        default="free",
        description="Which values a node reads: `free` searches every edge, `all` has every one, `chain` only the one "
        "before; a number has each node choose so many values.",
    )
    max_edges: int | None = Field(
        default=None, ge=1, description="A member has at most so many edges, those to the output included."
    )
    slots: Literal["nodes", "edges"] = Field(
        default="nodes",
        description="Where operations stand: on a node (applied to the sum of what feeds it) or on an edge.",
    )
    operations: Annotated[Operations, Names(registry=OPERATIONS)] = Field(description="What may stand in a slot.")
    per: Sharing = Field(
        default="network",
        description="Where the cell is the same: in the whole network, within a stage, or nowhere (`layer`).",
    )
    output: Literal["loose", "last", "all", "free"] = Field(
        default="loose",
        description="What leaves the cell: the nodes that nobody reads, the last node, all nodes, or (`free`) what "
        "searched edges say, the input among it.",
    )
    join: Literal["sum", "concat", "split"] = Field(
        default="sum",
        description="How what leaves the cell is joined. `concat` makes it wider; `split` shares the width out among "
        "the nodes that leave it, as NAS-Bench-101 does.",
    )
    residual: Truth = Field(
        default=Domain(kind="categorical", choices=(False,)), description="Whether the input is added to the output."
    )
    project: ProjectConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> CellConfig:
        mistakes: Mistakes = [(where, text) for broken, where, text in self._rules() if broken]
        if mistakes:
            refuse(mistakes)
        return self

    def _rules(self) -> Iterator[tuple[bool, tuple[str], str]]:
        """Whether each rule is broken, where, and how it is said."""
        yield self.nodes.most > MAX_NODES, ("nodes",), f"a cell has at most {MAX_NODES} nodes"
        alike = self.project is not None and self.project.per == "cell"
        two = self.inputs == 2 and not alike
        yield two, ("inputs",), "a cell with two inputs needs `project: {per: cell}`, so that their shapes agree"
        limited = self.max_edges is not None and self.edges != "free"
        yield limited, ("max_edges",), "`max_edges` goes with `edges: free`"
        narrow = self.join == "split" and self.slots == "edges"
        yield narrow, ("join",), "`split` goes with `slots: nodes`: an edge has no width of its own"
        residual = True in self.residual.choices
        twice = self.output == "free" and residual
        yield twice, ("residual",), "with `output: free` the edge from input to output is searched already"
        zeros = [name for name in map(str, self.operations.choices.choices) if OPERATIONS[name].facts.get("zero")]
        missing = self.join != "sum" and (self.output == "free" or residual) and bool(zeros)
        why = "would leave too few channels for the input to be added to; take it out, or set `join: sum`"
        yield missing, ("operations",), f"{', '.join(map(repr, zeros))} {why}"


class StageConfig(Section):
    """A row of cells at one width and resolution."""

    cell: str = Field(description="Name of a cell under `cells`.")
    depth: Count = Field(default=Domain(kind="ordinal", choices=(1,)), description="Number of cells.")
    width: Count = Field(description="Number of channels, or of features.")
    stride: Stride = Field(default=1, description="2 halves the resolution.")
    transition: AnyOperation | None = Field(
        default="conv3x3",
        description="The operation that changes width and resolution before the stage, where they change; one without "
        "weights changes the resolution alone. Null: the first cell does it.",
    )


class StemConfig(Section):
    """What turns the input into channels, or into features."""

    operation: WeightedOperation = "conv3x3"
    width: Count
    stride: Stride = 1


class HeadConfig(Section):
    """What stands between the last cell and the classes: projection, norm, activation, pooling, dropout, classifier."""

    width: Count | None = Field(default=None, description="Width of a 1x1 projection before the pooling. Null: none.")
    activated: bool | None = Field(
        default=None,
        description="Whether norm and activation stand before the pooling. Null: with `order: before`, or a width.",
    )


class ActivationConfig(Section):
    """The activation domain: choices, and how many of them one network has."""

    choices: Activations = Domain(kind="categorical", choices=("relu",))
    per: Granularity = "network"
    order: Order = Field(
        default="before", description="Activation, convolution, norm (`before`) or convolution, norm, activation."
    )


class InitialisationConfig(Section):
    """The initialisation domain: choices, and how many of them one network has."""

    choices: Initialisations = Domain(kind="categorical", choices=("default",))
    per: Granularity = "network"


class HalvesConfig(Section):
    """Which parameters are on which side, where that differs from the default. Patterns such as `stages.*.width`."""

    structure: tuple[str, ...] = Field(default=(), description="Patterns of parameters searched with the structure.")
    operators: tuple[str, ...] = Field(default=(), description="Patterns of parameters searched with the operators.")


class Limits(Section):
    """Inclusive bounds; what is left out is not bounded."""

    min: float | None = Field(default=None, ge=0)
    max: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"no number is at least {self.min:g} and at most {self.max:g}")
        return self


class ConstraintsConfig(Section):
    """What a candidate has to satisfy before it may be trained."""

    params: Limits = Field(default=Limits(), description="Trainable parameters.")
    flops: Limits = Field(
        default=Limits(), description="Floating-point operations of one example's forward pass, 2 per multiply-add."
    )
    depth: Limits = Field(default=Limits(), description="Operations with weights on the longest way to the classes.")
    activation_bytes: Limits = Field(
        default=Limits(), description="Bytes of all layers' float32 outputs for one example: what training keeps."
    )
    latency_ms: Limits = Field(
        default=Limits(),
        description="Milliseconds of one example's forward pass, measured on this machine's CPU with one thread. It "
        "varies between machines and runs, so resuming is exact only without it.",
    )
    measures: dict[str, Limits] = Field(
        default={}, description="Bounds on measures of your own, registered in a plug-in with `MEASURES.register`."
    )

    @model_validator(mode="after")
    def _measures_exist(self) -> ConstraintsConfig:
        unknown: Mistakes = [
            (("measures", name), MEASURES.unknown(name)) for name in self.measures if name not in MEASURES
        ]
        if unknown:
            refuse(unknown)
        return self


class SpaceConfig(Section):
    """The space of networks that is searched."""

    stem: StemConfig
    cells: dict[str, CellConfig] = Field(min_length=1)
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    head: HeadConfig = HeadConfig()
    activation: ActivationConfig = ActivationConfig()
    initialisation: InitialisationConfig = InitialisationConfig()
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the classifier.")
    prune: bool = Field(
        default=True,
        description="Whether operations behind a `none` are left out of the network. False builds and counts them, as "
        "NAS-Bench-201 does; two networks that differ in them alone still count as one.",
    )
    halves: HalvesConfig = HalvesConfig()
    constraints: ConstraintsConfig = ConstraintsConfig()

    @property
    def head_is_activated(self) -> bool:
        """Whether norm and activation stand in the head."""
        if self.head.activated is not None:
            return self.head.activated
        return self.activation.order == "before" or self.head.width is not None

    @model_validator(mode="after")
    def _cells_exist(self) -> SpaceConfig:
        mistakes: Mistakes = [
            (("cells", name), "a cell's name is a word of letters, digits and `_`, and not `stages`")
            for name in self.cells
            if not name.isidentifier() or name == "stages"
        ]
        mistakes.extend(
            (
                ("stages", position, "cell"),
                f"there is no cell {stage.cell!r}{nearest(stage.cell, sorted(self.cells))} "
                f"(known: {', '.join(self.cells)})",
            )
            for position, stage in enumerate(self.stages)
            if stage.cell not in self.cells
        )
        mistakes.extend(
            (("stages", position, "depth"), f"a stage has at most {MAX_DEPTH} cells")
            for position, stage in enumerate(self.stages)
            if stage.depth.most > MAX_DEPTH
        )
        if mistakes:
            refuse(mistakes)
        return self
