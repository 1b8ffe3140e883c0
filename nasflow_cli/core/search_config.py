"""The `search:` section: how long, with which budgets, and how new candidates are made. Budgets are epochs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from nasflow_cli.core.space_config import Section


def _either_way(schema: dict[str, Any]) -> None:
    """Tell editors that `rungs` stand for `min` and `max`."""
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["rungs"]}]


class BudgetConfig(Section):
    """Hyperband's budgets (Li et al. 2018, section 3), in epochs: `min` and `max`, or all of them as `rungs`."""

    model_config = ConfigDict(json_schema_extra=_either_way)

    min: int = Field(ge=1)
    max: int = Field(ge=1)
    eta: int = Field(
        default=3,
        ge=2,
        description="One in so many goes on to the next rung. Where `rungs` are given and this is not, it is what lets "
        "all rungs of a bracket cost about the same: how many times as long a rung is as the one below it.",
    )
    # The tuple is not strict: what `_ends` has looked at is no JSON to pydantic any more, and holds lists.
    rungs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="The budgets themselves, rising, where they are no powers of `eta` apart; `min` and `max` follow.",
    )

    @model_validator(mode="before")
    @classmethod
    def _ends(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("rungs"), list) or not raw["rungs"]:
            return raw
        return {"min": raw["rungs"][0], "max": raw["rungs"][-1], **_step(raw["rungs"]), **raw}

    @model_validator(mode="after")
    def _ordered(self) -> BudgetConfig:
        if self.rungs is not None and list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError("the rungs rise: write each once, the smallest first")
        if self.rungs is not None and (self.min, self.max) != (self.rungs[0], self.rungs[-1]):
            raise ValueError("the rungs are the budgets; leave out `min` and `max`")
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


def _step(rungs: list[Any]) -> dict[str, int]:
    """The `eta` that goes with rungs, where they have one; what is wrong with others is said elsewhere."""
    if len(rungs) < 2 or not all(isinstance(rung, int) and rung > 0 for rung in rungs):
        return {}
    return {"eta": max(2, round((rungs[-1] / rungs[0]) ** (1 / (len(rungs) - 1))))}


class DensityConfig(Section):
    """The density model of each BOHB (Falkner et al. 2018, section 3.2); its kernel is valid for categoricals."""

    top_fraction: float = Field(default=0.15, gt=0, lt=1, description="Share of the results that counts as good.")
    min_points: int | None = Field(default=None, ge=2, description="Results needed; None: one more than parameters.")
    bandwidth_floor: float = Field(default=0.05, gt=0, lt=1, description="No parameter is ever held to be certain.")
    samples: int = Field(
        default=64, ge=1, description="Draws from the good density, of which the best ratio is proposed."
    )


class PredictorConfig(Section):
    """The graph network that ranks candidates before they are trained."""

    enabled: bool = True
    min_results: int = Field(default=10, ge=4, description="Results needed before it is first fitted.")
    refit_every: int = Field(
        default=5, ge=1, description="New results between fits; more once a tenth of all results is more."
    )
    bypass: float = Field(default=0.1, ge=0, le=1, description="Share of slots that it never decides.")
    patience: int = Field(
        default=12,
        ge=1,
        description="Scores at the largest budget without a better one, after which it is bypassed three times as "
        "often.",
    )
    min_correlation: float = Field(
        default=0.2,
        ge=-1,
        le=1,
        description="It decides only while its Kendall tau, measured on results that it has not learned from, is at "
        "least this.",
    )
    min_pairs: int = Field(
        default=15, ge=1, description="Comparable pairs of results needed to measure the correlation."
    )
    ensemble: int = Field(
        default=4, ge=2, description="Networks; each leaves out one part of the results, by which it is measured."
    )
    layers: int = Field(default=3, ge=1)
    width: int = Field(default=32, ge=4)
    steps: int = Field(default=240, ge=1, description="Most steps of a fit, each on a batch of results.")
    batch_size: int = Field(default=64, ge=2, description="Results in a step.")
    learning_rate: float = Field(default=5e-3, gt=0)


class ConfirmConfig(Section):
    """After the last bracket the best networks are trained again; the winner is the one with the best mean score."""

    top: int = Field(default=0, ge=0, description="So many of the best at the largest budget; 0: none.")
    repeats: int = Field(
        default=2,
        ge=1,
        description="Trainings of each, from scratch and each from a seed of its own. They come on top of `trials`.",
    )


class SearchConfig(Section):
    """How long to search, with which budgets, and how new candidates are made."""

    trials: int = Field(ge=1, description="Trainings to run, promotions included.")
    time_limit_s: float | None = Field(
        default=None, gt=0, description="Stop early (exit code 75) after so many seconds."
    )
    budget: BudgetConfig
    turns: Literal["alternate", "joint"] = Field(
        default="alternate",
        description="alternate: the searches of structures and of operators take turns, the other half held; "
        "joint: one search of both. The same where one half has nothing to search.",
    )
    turn_brackets: int = Field(default=1, ge=1, description="Brackets of one search before the other takes its turn.")
    pool: int = Field(
        default=32,
        ge=1,
        description="Candidates that the predictor chooses from at first; `refinements` add as many each.",
    )
    refinements: int = Field(
        default=3,
        ge=0,
        description="How often edits of what the predictor expects most of join the pool, as many as the pool has, "
        "before it chooses.",
    )
    elites: int = Field(default=5, ge=0, description="The held half is one of so many of the best; 0: it is random.")
    random_fraction: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of the pool, and of the choices without the predictor, that is random.",
    )
    edit_fraction: float = Field(
        default=0.0, ge=0, le=1, description="Share of both that edits an elite in a place or two."
    )
    density: DensityConfig = DensityConfig()
    predictor: PredictorConfig = PredictorConfig()
    confirm: ConfirmConfig = ConfirmConfig()

    @model_validator(mode="after")
    def _shares(self) -> SearchConfig:
        if self.random_fraction + self.edit_fraction > 1:
            raise ValueError("random_fraction and edit_fraction are shares of one pool; together they are at most 1")
        return self
