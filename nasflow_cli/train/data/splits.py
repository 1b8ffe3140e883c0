"""Which example goes to which split: pure functions of labels, fractions and seeds. Looks at no pixel or feature.

Splits are stratified: the share of each class is kept as nearly as whole numbers allow (largest remainders), and no
class is left out of a split. A split that cannot be made so is refused, with the class or the setting that is to
blame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.counted import counted
from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.train.data.values import Labels, Positions

Counts = npt.NDArray[np.int64]


class Part(IntEnum):
    """What is chosen. Its number goes into the seed, so that no choice depends on another's settings."""

    TEST = 1
    VALIDATION = 2
    TRAIN_LIMIT = 3
    TEST_LIMIT = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """Positions, ascending and disjoint. `test` is in the test images when the source has some, else among the rest."""

    train: Positions
    validation: Positions
    test: Positions


def choose_splits(labels: Labels, test_labels: Labels | None, classes: Sequence[str], config: DataConfig) -> Chosen:
    """Choose the positions of every split.

    A carved-out test split depends on its fraction, the seed and the labels alone: not on `validation_fraction` or
    `train_limit`, so that no image moves between test and train when those change.

    Raises DataError when a class or a setting leaves a split without some class.
    """
    own_test = test_labels is not None
    _check_sizes(
        labels, classes, 2 if own_test else 3, "train and validation" if own_test else "train, validation, test"
    )
    rest: Positions = np.arange(len(labels), dtype=np.int64)
    if test_labels is None:
        # Two of each class stay behind, for train and for validation.
        test = _carve(labels, classes, Part.TEST, config, keep=2)
        rest, test_labels = np.setdiff1d(rest, test), labels[test]
    else:
        _check_sizes(test_labels, classes, 1, "test")
        test = np.arange(len(test_labels), dtype=np.int64)
    test = test[_limited(test_labels, classes, Part.TEST_LIMIT, config)]
    rest = rest[_limited(labels[rest], classes, Part.TRAIN_LIMIT, config)]
    held_out = _carve(labels[rest], classes, Part.VALIDATION, config, keep=1)
    return Chosen(train=np.delete(rest, held_out), validation=rest[held_out], test=test)


def choose(labels: Labels, counts: Counts, seed: Sequence[int]) -> Positions:
    """Draw `counts[c]` positions of each class c without replacement; ascending.

    The order in which a class is drawn does not depend on `counts`: a larger draw holds every smaller one.
    """
    shuffled = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.bincount(labels, minlength=len(counts))
    rank_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen: Positions = np.sort(grouped[rank_in_class < np.repeat(counts, sizes)]).astype(np.int64)
    return chosen


def apportion(sizes: Counts, total: int, low: Counts, high: Counts) -> Counts:
    """Divide `total` over classes in proportion to `sizes` by largest remainders, each within `low`..`high`.

    Ties go to the lower class. Raises ValueError when the bounds do not admit `total`.
    """
    if not low.sum() <= total <= high.sum():
        raise ValueError(f"{total} is not within {low.sum()}..{high.sum()}")
    quota = total * sizes / sizes.sum()
    counts: Counts = np.clip(np.floor(quota).astype(np.int64), low, high)
    while (short := total - int(counts.sum())) != 0:
        step = 1 if short > 0 else -1
        room = counts < high if short > 0 else counts > low
        counts[np.argmax(np.where(room, step * (quota - counts), -np.inf))] += step
    return counts


def _carve(labels: Labels, classes: Sequence[str], part: Part, config: DataConfig, keep: int) -> Positions:
    """Choose a fraction with at least one image of each class, leaving at least `keep`."""
    name = part.name.lower()
    fraction = config.test_fraction if part is Part.TEST else config.validation_fraction
    total, sizes = round(fraction * len(labels)), np.bincount(labels, minlength=len(classes))
    low: Counts = np.ones_like(sizes)
    high: Counts = sizes - keep
    if total < low.sum():
        why, change = f"each of the {len(classes)} classes needs one there", "raise it, or give more examples"
    elif total > high.sum():
        why, change = f"{keep} of each of the {len(classes)} classes must remain", "lower it, or give more examples"
    else:
        return choose(labels, apportion(sizes, total, low, high), (config.split_seed, part))
    raise DataError(f"data.{name}_fraction: {fraction:g} of {len(labels)} examples is {total}, but {why}; {change}")


def _limited(
    labels: Labels, classes: Sequence[str], part: Part, config: DataConfig
) -> Positions | slice[Any, Any, Any]:
    """Choose as many as the limit allows, enough of each class for the splits that follow."""
    limit = config.train_limit if part is Part.TRAIN_LIMIT else config.test_limit
    if limit is None or limit >= len(labels):
        return slice(None)
    each = 2 if part is Part.TRAIN_LIMIT else 1
    if limit < each * len(classes):
        splits = "train and validation" if part is Part.TRAIN_LIMIT else "test"
        raise DataError(
            f"data.{part.name.lower()}: {limit} examples are too few to have each of the {len(classes)} classes in "
            f"{splits}; set at least {each * len(classes)}"
        )
    sizes = np.bincount(labels, minlength=len(classes))
    return choose(labels, apportion(sizes, limit, np.full_like(sizes, each), sizes), (config.split_seed, part))


def _check_sizes(labels: Labels, classes: Sequence[str], needed: int, splits: str) -> None:
    """Refuse a class that cannot be in each of the splits that are made of these images."""
    if len(labels) < len(classes):
        raise DataError(
            f"there are {len(labels)} examples for {len(classes)} classes ({splits}); each class needs some"
        )
    sizes = np.bincount(labels, minlength=len(classes))
    scarce = int(np.argmin(sizes))
    if sizes[scarce] < needed:
        raise DataError(
            f"class {classes[scarce]!r} has {counted(sizes[scarce], 'example')} for {splits}, and needs at least "
            f"{needed}; add some, or leave the class out"
        )
