"""What the readers find in the data, and how it is best split. Refuses what they refuse, in their words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.initial.columns import Columns, columns_of
from nasflow_cli.initial.detect import Place
from nasflow_cli.train.data import Source, load_splits

CPU_IMAGES = 5000
"""Images that a first search without a GPU trains on; more would take it hours."""

RESIDENT_BYTES = 2**31
"""Each worker holds the data in memory: more images than fit into this are left out at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the data is.

    `shape`: (channels, height, width) or (features,). `num_train`, `num_validation` and `num_test` are of the splits
    that the settings make; `class_sizes`, by label, are of all examples that may be trained on, validation (and a test
    split that is carved out) included. `test_fraction` is None where the data brings a test split of its own, and
    `train_limit` where all of it is used. `columns` is set for tables.
    """

    place: Place
    columns: Columns | None
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    class_sizes: tuple[int, ...]
    num_train: int
    num_validation: int
    num_test: int
    test_fraction: float | None
    validation_fraction: float
    train_limit: int | None

    @property
    def is_vectors(self) -> bool:
        """Whether the examples are vectors, and not images."""
        return len(self.shape) == 1

    @property
    def resolution(self) -> int:
        """The shorter side of an image, in pixels."""
        return min(self.shape[1:])

    @property
    def num_examples(self) -> int:
        """All that may be trained on, as `class_sizes` counts it."""
        return sum(self.class_sizes)


def look(place: Place, target: str | None, has_gpu: bool) -> Findings:
    """Read the data and choose its splits. Raises what the readers raise; `target` is for tables alone."""
    columns = columns_of(place.path, target) if place.source == "csv" else None
    config = _config(place, columns)
    try:
        source: Source = DATASETS[config.source].make(config)
        sizes = np.bincount(source.train.labels, minlength=len(source.classes)).tolist()
        _, example = next(iter(source.train.blocks(np.zeros(1, dtype=np.int64))))
        limit = _limit(example.shape[1:], len(sizes), sum(sizes), has_gpu)
        test, validation = _splitting(sizes, source.test is not None, limit)
        settings = {"test_fraction": test, "validation_fraction": validation, "train_limit": limit}
        splits = load_splits(config.model_copy(update=settings))
    except DataError as error:
        if columns is None or target is not None:
            raise
        hint = f"the classes were taken from the column {columns.target!r}; name another with --target"
        raise DataError(f"{error}\n{hint}") from error
    return Findings(
        place=place,
        columns=columns,
        shape=splits.input_shape,
        classes=splits.classes,
        class_sizes=tuple(sizes),
        num_train=len(splits.train),
        num_validation=len(splits.validation),
        num_test=len(splits.test),
        test_fraction=None if source.test is not None else test,
        validation_fraction=validation,
        train_limit=limit,
    )


def _config(place: Place, columns: Columns | None) -> DataConfig:
    test_path = None if place.test_path is None else str(place.test_path)
    config = DataConfig(source=place.source, path=str(place.path), test_path=test_path)
    if columns is None:
        return config
    return config.model_copy(
        update={"target": columns.target, "ignore": tuple(columns.ignore), "header": columns.header}
    )


def _limit(shape: Sequence[int], num_classes: int, num_examples: int, has_gpu: bool) -> int | None:
    """How many examples a first search should take; None: all of them."""
    if len(shape) == 1:
        return None
    limit = RESIDENT_BYTES // math.prod(shape)
    if not has_gpu:
        limit = min(limit, CPU_IMAGES)
    limit = max(limit, 20 * num_classes)
    # A limit that leaves out a little is a nuisance and saves nothing.
    return limit if num_examples > 1.5 * limit else None


def _splitting(sizes: Sequence[int], has_test: bool, limit: int | None) -> tuple[float, float]:
    """The fractions of test and validation: more is held out of little, and each class is in every split.

    Where that cannot be, the usual fractions are given, and whoever splits says what is wrong.
    """
    num, classes = sum(sizes), len(sizes)
    test = 0.2 if has_test else fraction(0.2 if num >= 300 else 0.25, num, classes, num - 2 * classes)
    rest = num if has_test else num - round(test * num)
    rest = min(rest, limit) if limit is not None else rest
    wanted = 0.25 if rest < 1000 else 0.2 if rest < 30_000 else 0.1
    return test, fraction(wanted, rest, classes, rest - classes)


def fraction(wanted: float, num: int, low: int, high: int) -> float:
    """The fraction nearest to `wanted` that makes `low`..`high` of `num`, with as few digits as will do.

    Returns `wanted` where there is none.
    """
    count = min(max(round(wanted * num), low), high)
    if num == 0 or count < max(low, 1) or count == round(wanted * num):
        return wanted
    for digits in range(2, 7):
        shorter = round(count / num, digits)
        if 0 < shorter < 1 and low <= round(shorter * num) <= high:
            return shorter
    return wanted
