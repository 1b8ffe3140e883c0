"""The `space:` section: how a user describes a space of networks. What follows from it is in `space`.

A network is a stem, stages of repeated cells, and a classifier. A cell is a small directed graph; an operation stands
on each of its nodes, or on each of its edges. Structure: how many cells and nodes, how wide, which node feeds which.
Operators: which operation, activation and initialisation stands in each slot (GNAS, sections 3.1 and 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from nasflow_cli.core.domain import Domain, DomainField, parse_domain
from nasflow_cli.core.registry import ACTIVATIONS, INITIALISERS, OPERATIONS, Registry, nearest


class Section(BaseModel):
    """A closed, frozen part of an experiment: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _registered(registry: Registry[object]) -> BeforeValidator:  # type: ignore[type-var]
    def check(raw: object) -> Domain:
        domain = parse_domain(raw)
        if not domain.choices:
            raise ValueError(f"name the choices of this {registry.kind}")
        unknown = [
            (where, registry.unknown(str(choice)))
            for where, choice in _placed(raw)
            if not isinstance(choice, str) or choice not in registry
        ]
        if unknown:
            _refuse(unknown)
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


def _refuse(mistakes: Sequence[tuple[tuple[str | int, ...], str]]) -> NoReturn:
    """Raise several mistakes at once, each at its place inside what is being validated."""
    details = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=where, input=None)
        for where, text in mistakes
    ]
    raise ValidationError.from_exception_data("space", details)


def _operation(name: str) -> str:
    if name not in OPERATIONS:
        raise ValueError(OPERATIONS.unknown(name))
    if not OPERATIONS[name].facts.get("weighted"):
        raise ValueError(
            f"{name!r} has no weights, so it cannot change the number of channels; take one that is registered with "
            "`weighted=True`, such as 'conv3x3'"
        )
    return name


def _stride(raw: object) -> object:
    if isinstance(raw, (bool, float)):
        raise ValueError("1 or 2 is wanted here")  # noqa: TRY004  (pydantic takes true and 1.0 for 1)
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


OperationDomain = Annotated[DomainField, _registered(OPERATIONS)]
OperationName = Annotated[str, AfterValidator(_operation)]
Count = Annotated[DomainField, _whole_from(1)]
Truth = Annotated[DomainField, AfterValidator(_truth)]
Stride = Annotated[Literal[1, 2], BeforeValidator(_stride)]
Granularity = Literal["network", "stage", "slot"]


class CellConfig(Section):
    """A cell: a graph of `nodes` nodes over its input, with one operation in each slot."""

    nodes: Count = Field(description="Number of nodes after the input.")
    edges: Literal["free", "all", "chain"] = Field(
        default="free",
        description="Which node feeds which: `free` searches every edge, `all` has every one, `chain` only i to i+1.",
    )
    slots: Literal["nodes", "edges"] = Field(
        default="nodes",
        description="Where operations stand: on a node (applied to the sum of what feeds it) or on an edge.",
    )
    operations: OperationDomain = Field(description="What may stand in a slot.")
    output: Literal["loose", "last"] = Field(
        default="loose", description="What leaves the cell: the sum of the nodes that nobody reads, or the last node."
    )
    residual: Truth = Field(
        default=Domain(kind="categorical", choices=(False,)), description="Whether the input is added to the output."
    )


class StageConfig(Section):
    """A row of equal cells at one width and resolution. A transition stands before it where either changes."""

    cell: str = Field(description="Name of a cell under `cells`.")
    depth: Count = Field(default=Domain(kind="ordinal", choices=(1,)), description="Number of cells.")
    width: Count = Field(description="Number of channels.")
    stride: Stride = Field(default=1, description="2 halves the resolution before the stage.")
    transition: OperationName = Field(default="conv3x3", description="The operation that changes width or resolution.")


class StemConfig(Section):
    """What turns the image into channels."""

    operation: OperationName = "conv3x3"
    width: Count
    stride: Stride = 1


class ActivationConfig(Section):
    """The activation domain: choices, and how many of them one network has."""

    choices: Annotated[DomainField, _registered(ACTIVATIONS)] = Domain(kind="categorical", choices=("relu",))
    per: Granularity = "network"


class InitialisationConfig(Section):
    """The initialisation domain: choices, and how many of them one network has."""

    choices: Annotated[DomainField, _registered(INITIALISERS)] = Domain(kind="categorical", choices=("default",))
    per: Granularity = "network"


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
        default=Limits(), description="Floating-point operations of one image's forward pass, 2 per multiply-add."
    )


class SpaceConfig(Section):
    """The space of networks that is searched."""

    stem: StemConfig
    cells: dict[str, CellConfig] = Field(min_length=1)
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    activation: ActivationConfig = ActivationConfig()
    initialisation: InitialisationConfig = InitialisationConfig()
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the classifier.")
    constraints: ConstraintsConfig = ConstraintsConfig()

    @model_validator(mode="after")
    def _cells_exist(self) -> SpaceConfig:
        mistakes: list[tuple[tuple[str | int, ...], str]] = [
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
        if mistakes:
            _refuse(mistakes)
        return self
