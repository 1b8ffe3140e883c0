"""The `evaluator:` setting: a name, or the columns of a table that is searched. Refuses settings that contradict.

What stands in the table is not known here; `train/table_check.py` holds these settings to it and to the space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)

from nasflow_cli.core.registry import EVALUATORS
from nasflow_cli.core.space_config import Section

BRANCHES = ("<name>", "<mapping>")
"""The two ways to write an evaluator. pydantic puts them into the place of a mistake; they are no keys."""

TEST_METRIC = "test_score"
"""The metric that holds the `test` column."""

COST_METRIC = "cost_s"
"""The metric that holds the cost of the training that was looked up, in seconds."""


def _kind(name: str) -> str:
    if name not in EVALUATORS:
        raise ValueError(EVALUATORS.unknown(name))
    if name != "table":
        raise ValueError(f"the evaluator {name!r} has no settings; write `evaluator: {name}`")
    return name


def _word(raw: object) -> object:
    if not isinstance(raw, (bool, int, float, str)):
        raise ValueError("a single value is wanted here")  # noqa: TRY004  (pydantic lists only ValueErrors)
    return raw


def _from_1(columns: Mapping[int, str]) -> Mapping[int, str]:
    if any(budget < 1 for budget in columns):
        raise ValueError("a budget is a whole number of at least 1")
    return columns


Word = Annotated[
    bool | int | float | str, PlainValidator(_word), WithJsonSchema({"type": ["string", "number", "boolean"]})
]
# Not strict: what a validator has looked at before is no JSON to pydantic any more, and a key is a text there.
Budget = Annotated[int, Field(strict=False)]
ByBudget = Annotated[dict[Budget, str], AfterValidator(_from_1)]


class TableConfig(Section):
    """A search over a table of results instead of trainings: CSV (also .gz) or parquet, one row an architecture.

    `evaluator: train`, the default, trains every child; with this mapping its scores are looked up. An experiment over
    a table has no `data` section, and `search.budget` is made of budgets that have a column.
    """

    kind: Annotated[str, AfterValidator(_kind)] = Field(description="`table`.")
    path: str = Field(
        min_length=1,
        description="A .csv, .csv.gz or .parquet file; a relative path starts at the working directory or, where "
        "nothing is there, at the folder of the experiment file.",
    )
    architecture: dict[str, str] = Field(
        min_length=1, description="The column of each searched parameter of the space."
    )
    values: dict[str, Word] = Field(default={}, description="The table's word for a value of ours, where it differs.")
    absent: Word | None = Field(
        default=None,
        description="What stands in the column of a parameter that an architecture does not have; null: nothing.",
    )
    scores: ByBudget = Field(min_length=1, description="The column of the score at each budget; higher is better.")
    scale: float = Field(
        default=1.0, gt=0, description="Scores and test scores are multiplied by this; 0.01 turns percent into shares."
    )
    test: str | None = Field(
        default=None, description=f"Column shown as the metric `{TEST_METRIC}`; the search never uses it."
    )
    cost: Annotated[ByBudget, WithJsonSchema({"type": ["string", "object"]})] = Field(
        default={},
        description=f"The column of the seconds that a training took, by budget, shown as the metric `{COST_METRIC}`; "
        "a budget without one costs its share of the next larger. One column alone is that of the largest budget.",
    )
    metrics: dict[str, str] = Field(
        default={},
        description="Metric to column, for other numbers; `params` and `flops` (counts) are those of the leaderboard.",
    )
    input_shape: Annotated[tuple[int, int, int], Field(strict=False)] | None = Field(
        default=None,
        description="Channels, height and width of the images: with `classes`, nasflow's own count of parameters and "
        "FLOPs is known, which constraints need.",
    )
    classes: int | None = Field(default=None, ge=2, description="Number of classes; goes with `input_shape`.")

    @model_validator(mode="before")
    @classmethod
    def _one_cost(cls, raw: Any) -> Any:
        """One column of costs is that of the largest budget."""
        if not (isinstance(raw, dict) and isinstance(raw.get("cost"), str) and isinstance(raw.get("scores"), dict)):
            return raw
        budgets = [key for key in raw["scores"] if str(key).isdecimal()]
        return {**raw, "cost": {max(budgets, key=int): raw["cost"]}} if budgets else raw

    @model_validator(mode="after")
    def _agrees(self) -> TableConfig:
        if (self.input_shape is None) != (self.classes is None):
            raise ValueError("`input_shape` and `classes` go together: give both or neither")
        if self.input_shape is not None and min(self.input_shape) < 1:
            raise ValueError("the sides of `input_shape` are at least 1")
        for name in (TEST_METRIC, COST_METRIC):
            if name in self.metrics:
                raise ValueError(f"the metric {name!r} is taken: it is what `{name.split('_')[0]}` is shown as")
        return self


def _name(name: str) -> str:
    if name not in EVALUATORS:
        raise ValueError(EVALUATORS.unknown(name))
    if name == "table":
        raise ValueError("the evaluator 'table' needs settings; write it as {kind: table, path: ..., ...}")
    return name


def _short(raw: object) -> object:
    """`{kind: train}` says no more than `train`."""
    is_bare = isinstance(raw, dict) and list(raw) == ["kind"] and isinstance(raw["kind"], str)
    return raw["kind"] if is_bare and isinstance(raw, dict) else raw


EvaluatorField = Annotated[
    Annotated[str, AfterValidator(_name), Tag(BRANCHES[0])] | Annotated[TableConfig, Tag(BRANCHES[1])],
    Discriminator(lambda raw: BRANCHES[isinstance(raw, (dict, TableConfig))]),
    BeforeValidator(_short),
]
"""The name of an evaluator without settings, or a table."""
