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
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nasflow_cli.core.data_config import DataConfig, HubConfig
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.evaluator_config import EvaluatorField, TableConfig
from nasflow_cli.core.executor_config import ExecutorConfig
from nasflow_cli.core.load import write_yaml
from nasflow_cli.core.registry import DATASETS, EVALUATORS
from nasflow_cli.core.search_config import SearchConfig
from nasflow_cli.core.space_config import Section, SpaceConfig

MAY_CHANGE = (
    *("name", "runs", "executor", "search.trials", "search.time_limit_s", "search.confirm"),
    *("training.checkpoint_every_s", "data.path", "data.test_path", "evaluator.path"),
)
"""Settings that a run may go on with as others than before: where and how trials run, and how many."""


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


class TrainingConfig(Section):
    """The recipe that every child is trained with."""

    batch_size: int = Field(
        default=128,
        ge=1,
        description="Examples in a step; what is left of an epoch, less than a batch, is left out. At least 2 where "
        "batch norms see vectors or maps of 1x1.",
    )
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    schedule: Literal["constant", "decay", "cosine"] = Field(
        default="constant",
        description="constant: the rate stays. decay: it falls to 0 over the last `decay_fraction` of each rung, and a "
        "promoted child goes on from where it was still high. cosine: it falls to 0 over the largest budget, and a "
        "smaller rung is scored on the way. Averaged weights are scored in all of them (`ema`).",
    )
    decay_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of a rung's epochs over which `decay` lowers the rate."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    warmup_epochs: float = Field(
        default=1.0, ge=0, description="Epochs over which the rate rises to its full value; at most the largest budget."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    gradient_clip: float | None = Field(default=5.0, gt=0, description="Largest norm of the gradient.")
    ema: float = Field(default=0.99, ge=0, lt=1, description="Decay of the averaged weights that are scored; 0: none.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="What children are trained in; they are scored in float32. auto: bfloat16 on GPUs that have it, "
        "and for images on CPUs that have it.",
    )
    checkpoint_every_s: float = Field(
        default=0.0,
        ge=0,
        description="Least seconds between checkpoints inside a trial; 0: one after each epoch, so that a kill costs "
        "no more than the epoch that it cuts off.",
    )

    @model_validator(mode="after")
    def _decay(self) -> TrainingConfig:
        if self.schedule != "decay" and self.decay_fraction != type(self).model_fields["decay_fraction"].default:
            raise ValueError(f"decay_fraction goes with `schedule: decay`, and this is {self.schedule!r}; remove it")
        return self


def _forget_unused(value: dict[str, Any]) -> None:
    """Leave out settings that are younger than the first runs, where they say what was so without them."""
    training, data = value["training"], value["data"]
    if training["schedule"] != "decay":
        training.pop("decay_fraction")
    if training["schedule"] == "constant":
        training.pop("schedule")
    if data is None:
        return
    for name in ("colour", "mixup"):
        if not data["augment"][name]:
            data["augment"].pop(name)
    if data["hub"] == HubConfig().model_dump(mode="json"):
        data.pop("hub")


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
        # The order of the cells counts: parameters are declared, and so drawn, in it.
        return hashlib.sha256(json.dumps(self.identifying()).encode()).hexdigest()

    def identifying(self) -> dict[str, Any]:
        """What `identity` is the hash of."""
        value = self.model_dump(mode="json")
        for setting in MAY_CHANGE:
            section: Any = value
            *above, name = setting.split(".")
            for step in above:
                section = section[step]
            if isinstance(section, dict):
                section.pop(name, None)
        _forget_unused(value)
        return value

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

    def at_revision(self, revision: str | None) -> ExperimentConfig:
        """The experiment with its data read at this commit, as its workers are told; itself where there is none.

        Not what a run is known by: that is what its user wrote, perhaps a name that means another commit by now.
        """
        if self.data is None or revision is None or not DATASETS[self.data.source].facts.get("named"):
            return self
        hub = self.data.hub.model_copy(update={"revision": revision})
        return self.model_copy(update={"data": self.data.model_copy(update={"hub": hub})})

    def to_yaml(self) -> str:
        """Return the experiment with every default written out."""
        return write_yaml(self.model_dump(mode="json"))
