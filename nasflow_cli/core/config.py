"""An experiment: what one YAML file says, checked as a whole. Frozen and closed. Read by `experiment_file`.

Each setting is documented where it stands; `nasflow check` prints them resolved. Budgets are epochs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nasflow_cli.core.data_config import AugmentConfig, DataConfig, HubConfig, name_in
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.evaluator_config import EvaluatorField, TableConfig
from nasflow_cli.core.load import write_yaml
from nasflow_cli.core.registry import DATASETS, EVALUATORS, EXECUTORS
from nasflow_cli.core.space_config import Section, SpaceConfig

__all__ = [
    "AugmentConfig",
    "BudgetConfig",
    "ConfirmConfig",
    "DataConfig",
    "DensityConfig",
    "ExecutorConfig",
    "ExperimentConfig",
    "HubConfig",
    "PredictorConfig",
    "SearchConfig",
    "TrainingConfig",
]


def _data_where_needed(data: DataConfig | None, info: ValidationInfo) -> DataConfig | None:
    if "evaluator" not in info.data:
        return data  # it has a mistake of its own
    evaluator = info.data["evaluator"]
    is_table = isinstance(evaluator, TableConfig)
    if data is None and not is_table and EVALUATORS[evaluator].facts.get("data", True):
        raise PydanticCustomError("missing", "this key is needed and missing")
    if data is not None and is_table:
        raise ValueError("the evaluator 'table' reads no data; remove this section")
    return data


def _is_there(path: str | None) -> bool:
    try:
        return path is not None and Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


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


class TrainingConfig(Section):
    """The recipe that every child is trained with."""

    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    warmup_epochs: float = Field(
        default=1.0, ge=0, description="Epochs over which the rate rises to its constant value."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    gradient_clip: float | None = Field(default=5.0, gt=0, description="Largest norm of the gradient.")
    ema: float = Field(default=0.99, ge=0, lt=1, description="Decay of the averaged weights that are scored; 0: none.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on GPUs that have it."
    )
    checkpoint_every_s: float = Field(
        default=0.0,
        ge=0,
        description="Least seconds between checkpoints inside a trial; 0: one after each epoch, so that a kill costs "
        "no more than the epoch that it cuts off.",
    )


class ExecutorConfig(Section):
    """Where trials run."""

    kind: Annotated[str, name_in(EXECUTORS)] = "local"
    workers: int | None = Field(default=None, ge=1, description="Worker processes; None fills the machine.")
    children_per_device: int = Field(default=1, ge=1)
    trial_time_limit_s: float | None = Field(
        default=None, gt=0, description="A trial over this is ended and counts as failed."
    )
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        description="Most memory that a worker may take for its data and its trial, in GiB, beside the program itself "
        "(0.2 to 0.5 GiB) and what is on a device. A trial that needs more fails, and its worker goes on. Kept by the "
        "executor `local`, on Linux.",
    )
    data_gib: float | None = Field(
        default=None,
        ge=0,
        description="Most data that a worker holds on its device or in memory, in GiB, decoded. More than that is "
        "decoded once into a file in the run directory, which all workers share, and streamed from there. null: a "
        "quarter of the machine's memory over the workers (and of `memory_gib`), on a GPU at most half of its memory "
        "over its children. Never more than 16.",
    )
    loaders: int | None = Field(
        default=None,
        ge=0,
        description="Processes of each worker that read streamed data ahead; 0: the worker reads itself. null: none on "
        "the CPU, where they would only take cores from training; on a GPU one, or two where each worker has four "
        "cores.",
    )
    grace_s: float = Field(
        default=20.0, ge=0, description="Seconds that running trials get to checkpoint after a signal."
    )


class ExperimentConfig(Section):
    """One experiment."""

    name: str = Field(
        default="search", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Names the run directory."
    )
    seed: int = Field(default=0, ge=0)
    plugins: tuple[str, ...] = Field(
        default=(),
        description="Modules to import for their registrations. This runs their code, here and in every worker; "
        "nothing else that an experiment, a run directory, a checkpoint or data says can run code.",
    )
    runs: str = Field(default="runs", description="Folder that run directories are made in.")
    # Before `data`, which is checked knowing what evaluates.
    evaluator: EvaluatorField = "train"
    data: Annotated[DataConfig | None, AfterValidator(_data_where_needed)] = Field(default=None, validate_default=True)
    space: SpaceConfig
    search: SearchConfig
    training: TrainingConfig = TrainingConfig()
    executor: ExecutorConfig = ExecutorConfig()

    def identity(self) -> str:
        """Hash of all that decides which trials are proposed and how they score; where and how they run is left out."""
        value = self.model_dump(mode="json", exclude={"name", "runs", "executor"})
        for section in (value["data"], value["evaluator"]):
            for moved in ("path", "test_path"):
                if isinstance(section, dict):
                    section.pop(moved, None)
        for operational in ("trials", "time_limit_s", "confirm"):
            value["search"].pop(operational)
        value["training"].pop("checkpoint_every_s")
        for name in ("colour", "mixup"):  # younger than the first runs, which are without them
            if value["data"] is not None and not value["data"]["augment"][name]:
                value["data"]["augment"].pop(name)
        if value["data"] is not None and self.data_section.hub == HubConfig():  # younger, too
            value["data"].pop("hub")
        # The order of the cells counts: parameters are declared, and so drawn, in it.
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()

    @property
    def evaluator_name(self) -> str:
        """The name that the evaluator is registered under."""
        return self.evaluator if isinstance(self.evaluator, str) else self.evaluator.kind

    @property
    def table(self) -> TableConfig | None:
        """The table that scores are looked up in, if they are."""
        return self.evaluator if isinstance(self.evaluator, TableConfig) else None

    @property
    def data_section(self) -> DataConfig:
        """The `data` section. Raises ConfigError where there is none, as with a table of results."""
        if self.data is None:
            raise ConfigError(f"the evaluator {self.evaluator_name!r} reads no data, which this needs; add `data:`")
        return self.data

    def with_paths(self, place: Callable[[str], str]) -> ExperimentConfig:
        """The experiment with each of its paths to data replaced by what `place` says."""
        data, evaluator = self.data, self.evaluator
        if data is not None:
            given = {name: getattr(data, name) for name in ("path", "test_path")}
            moved = {name: place(path) for name, path in given.items() if path is not None}
            if DATASETS[data.source].facts.get("named") and not _is_there(moved.get("path")):
                moved.pop("path", None)  # the name of a data set, or of nothing
            data = data.model_copy(update=moved)
        if isinstance(evaluator, TableConfig):
            evaluator = evaluator.model_copy(update={"path": place(evaluator.path)})
        return self.model_copy(update={"data": data, "evaluator": evaluator})

    def to_yaml(self) -> str:
        """Return the experiment with every default written out."""
        return write_yaml(self.model_dump(mode="json"))
