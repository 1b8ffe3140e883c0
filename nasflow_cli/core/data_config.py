"""The `data:` section of an experiment: where examples come from, how they are split and changed. Reads none."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from nasflow_cli.core.named import Names, name_in
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.core.space_config import Section


class AugmentConfig(Section):
    """Random changes of training images, drawn anew for each image and epoch."""

    flip: bool = Field(default=False, description="Mirror left and right. Makes no sense for digits or letters.")
    crop: int = Field(default=0, ge=0, description="Shift by up to this many pixels, filling with black.")
    cutout: int = Field(default=0, ge=0, description="Side of a square that is blanked, in pixels.")
    colour: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Multiply brightness, contrast and saturation each by 1 - this to 1 + this. Colour images only.",
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        description="Blend each image and its label with another's; the share is drawn from Beta(this, this). 0: off.",
    )


class HubConfig(Section):
    """Of the source `hub` alone: which version of a data set, which splits, which columns.

    The split `test` is the test data; where there is none, that is carved out of the training data as ever. A split
    called `validation` is not used unless it is named here.
    """

    subset: str | None = Field(default=None, description="The configuration of the data set, where it has several.")
    revision: str | None = Field(
        default=None,
        description="A branch, tag or commit on the hub; null: the newest. A run keeps the commit that this means when "
        "it begins, also when it is resumed.",
    )
    train: str | None = Field(default=None, description="The split that is trained on; null: `train`.")
    test: str | None = Field(default=None, description="The split that is tested on; null: `test`, if there is one.")
    image: str | None = Field(default=None, description="The column of images; null: the only one.")
    label: str | None = Field(
        default=None,
        description="The column of classes; null: the only one that is declared as such, else `label`, `labels` or "
        "`fine_label`.",
    )


class DataConfig(Section):
    """Where the data comes from and how it is split. The search never sees the test split.

    A table (`csv`, with `,` `;` or tab between columns, also as `.csv.gz`) has one row an example. Columns of numbers
    are features as they are; a column of text becomes one feature a value of the training file (at most 32). A missing
    value (an empty field, `NA`, `NaN` or `?`) is replaced by the feature's mean over the train split and leaves no
    other trace. The target is a column of classes: text or whole numbers; regression is not supported.
    """

    source: Annotated[str, name_in(DATASETS), Names(registry=DATASETS)]
    path: str | None = Field(
        default=None,
        description="File or folder; a relative path starts at the working directory or, where nothing is there, at "
        "the folder of the experiment file. For `hub` also the name of a data set (`owner/name`).",
    )
    test_path: str | None = Field(default=None, description="Test data, where it is a file or folder of its own.")
    target: str | None = Field(default=None, description="Tables only: the column of the classes; null: the last one.")
    ignore: tuple[str, ...] = Field(
        default=(), description="Tables only: columns that are not used, such as names and numbers of rows."
    )
    header: bool = Field(
        default=True, description="Tables only: the first row names the columns; false: column1, column2, ..."
    )
    hub: HubConfig = HubConfig()
    test_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Carved out as test split when the source has none."
    )
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of the training data held out for scores."
    )
    split_seed: int = Field(
        default=0, ge=0, description="Seed of both splits; not the search's seed, so that they stay fixed."
    )
    train_limit: int | None = Field(
        default=None, ge=2, description="Use only so many training examples, validation included."
    )
    test_limit: int | None = Field(default=None, ge=1, description="Use only so many test examples.")
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _mirrored(self) -> DataConfig:
        if self.augment.flip and not DATASETS[self.source].facts.get("mirrored", True):
            raise ValueError(f"augment.flip makes no sense for {self.source!r}: mirrored, they mean nothing; remove it")
        return self

    @model_validator(mode="after")
    def _hub(self) -> DataConfig:
        if self.hub != HubConfig() and not DATASETS[self.source].facts.get("named"):
            raise ValueError(f"hub has the settings of the source 'hub', and this is {self.source!r}; remove it")
        return self

    @model_validator(mode="after")
    def _columns(self) -> DataConfig:
        if DATASETS[self.source].facts.get("columns"):
            return self
        for key in ("target", "ignore", "header"):
            if getattr(self, key) != type(self).model_fields[key].default:
                tables = ", ".join(name for name in DATASETS if DATASETS[name].facts.get("columns"))
                raise ValueError(
                    f"{key} is a setting of tables ({tables}), and {self.source!r} has no columns; remove it"
                )
        return self
