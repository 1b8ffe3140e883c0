"""From the `data:` section to the three splits. What a source may hold is checked here, once for all readers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.data_config import AugmentConfig, DataConfig
from nasflow_cli.core.data_record import DataRecord
from nasflow_cli.core.errors import ConfigError, DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.train.data.checks import encode_labels
from nasflow_cli.train.data.gather import Memory, Part, Room, gather
from nasflow_cli.train.data.splits import Chosen, choose_splits
from nasflow_cli.train.data.values import Inputs, Labelled, Labels, Pixels, Source, Splits, Vectors, blocks_of

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """How decoded examples become splits: `labels`, int64 (n,), and `sizes` in the order train, validation, test.

    The rest is as in `Splits`; `features` is empty where the reader has no names.
    """

    labels: Labels
    sizes: tuple[int, int, int]
    classes: tuple[str, ...]
    features: tuple[str, ...]
    test_indices: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """What of a source is used, and for what. Nothing of it has been decoded."""

    config: DataConfig
    source: Source
    chosen: Chosen

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many examples are in train, validation and test."""
        return len(self.chosen.train), len(self.chosen.validation), len(self.chosen.test)

    @property
    def parts(self) -> list[Part]:
        """All that is wanted, in the order train, validation, test."""
        own, chosen = self.source.test, self.chosen
        carved = [] if own is not None else [chosen.test]
        parts: list[Part] = [(self.source.train, np.concatenate([chosen.train, chosen.validation, *carved]))]
        return parts if own is None else [*parts, (own, chosen.test)]

    @property
    def cut(self) -> Cut:
        """How what is wanted becomes splits."""
        carved = self.source.test is None
        return Cut(
            labels=np.concatenate([part.labels[positions] for part, positions in self.parts]),
            sizes=self.sizes,
            classes=self.source.classes,
            features=self.source.features,
            test_indices=tuple(map(int, self.chosen.test)) if carved else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What is known of data before it is decoded.

    `input_shape` is that of the first training example: images are counted as grey while no other is known to be in
    colour. `num_bytes` is what all examples of that shape take. `record` is what a run remembers of its data,
    `notes` what its user should hear of it.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    num_train: int
    num_validation: int
    num_test: int
    num_bytes: int
    record: DataRecord
    is_streamed: bool = False
    notes: tuple[str, ...] = ()


def select(config: DataConfig) -> Selection:
    """Read the labels of a source and choose its splits.

    The same configuration and files give the same splits. Raises MissingError when there is nothing at the path,
    DataError when what is there cannot be used, and ConfigError for settings that do not fit the source.
    """
    source: Source = DATASETS[config.source].make(config)
    _check(source)
    own = source.test
    chosen = choose_splits(source.train.labels, None if own is None else own.labels, source.classes, config)
    return Selection(config=config, source=source, chosen=chosen)


def outline(selection: Selection) -> Outline:
    """Decode one example to know how large all are. Raises DataError, and ConfigError as `load_splits` does."""
    source = selection.source
    if source.features:
        example: Inputs = np.zeros(len(source.features), dtype=np.float32)
    else:
        _, (example, *_) = next(iter(source.train.blocks(selection.chosen.train[:1])))
    shape = example.shape
    # Whether all images are grey is not known yet.
    check_augment(selection.config.augment, (3, *shape[1:]) if len(shape) == 3 else shape)
    train, validation, test = selection.sizes
    return Outline(
        input_shape=shape,
        num_classes=len(source.classes),
        num_train=train,
        num_validation=validation,
        num_test=test,
        num_bytes=sum(selection.sizes) * example.nbytes,
        record=record_of(selection, shape),
        notes=source.notes,
    )


def record_of(selection: Selection, shape: Sequence[int]) -> DataRecord:
    """What tells this data from other. `shape` is that of the first training example.

    Pixels and values are left out: all would have to be decoded, and libraries round them in their own ways.
    """
    source, (train, validation, test) = selection.source, selection.sizes
    digest = hashlib.sha256(json.dumps([source.classes, source.features, list(shape)]).encode())
    for part, positions in selection.parts:
        digest.update(positions.astype("<i8").tobytes())
        digest.update(part.labels[positions].astype("<i8").tobytes())
    return DataRecord(
        revision=source.revision,
        num_train=train,
        num_validation=validation,
        num_test=test,
        num_classes=len(source.classes),
        fingerprint=digest.hexdigest()[:16],
    )


def load_splits(config: DataConfig) -> Splits:
    """Read a source and split it in memory; only what is in some split is decoded.

    Raises what `select` does, for an example that cannot be used too, and DataError for more than memory should hold.
    """
    return decode(select(config), Memory())


def decode(selection: Selection, room: Room) -> Splits:
    """Decode what was selected into an array of `room`, and find out what values are normalised by."""
    # One decoding for all: sizes and colours are compared in one place.
    images = gather(selection.parts, room)
    num_train, features = selection.sizes[0], _feature_names(selection.source.features, images)
    if images.ndim == 2:
        mean, std = feature_statistics(np.asarray(images[:num_train], np.float32), features, room.forget)
        _fill(images, mean)
        room.forget()
    else:
        mean, std = statistics(np.asarray(images[:num_train], np.uint8), room.forget)
    check_augment(selection.config.augment, images.shape[1:])
    return splits_of(selection.cut, images, mean, std)


def splits_of(cut: Cut, images: Inputs, mean: tuple[float, ...], std: tuple[float, ...]) -> Splits:
    """Cut decoded examples, in the order of `Selection.parts`, into the splits; no copies are made."""
    train, validation, test = (
        Labelled(images=images[end - size : end], labels=cut.labels[end - size : end])
        for size, end in zip(cut.sizes, np.cumsum(cut.sizes), strict=True)
    )
    return Splits(
        train=train,
        validation=validation,
        test=test,
        classes=cut.classes,
        mean=mean,
        std=std,
        test_indices=cut.test_indices,
        features=_feature_names(cut.features, images),
    )


def statistics(
    images: Pixels, forget: Callable[[], None] = lambda: None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of 0..255; the deviation is at least 1.

    Exact: sums of whole numbers, in blocks, so that no copy of the images is made in floating point. `forget` is called
    after each block: what was read need not stay in memory.
    """
    channels = images.shape[1]
    histogram = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), 1024):
        block = images[start : start + 1024]
        for channel in range(channels):
            histogram[channel] += np.bincount(block[:, channel].reshape(-1), minlength=256)
        forget()
    values, count = np.arange(256, dtype=np.float64), histogram[0].sum()
    mean = histogram @ values / count
    variance = (histogram * (values[None] - mean[:, None]) ** 2).sum(axis=1) / count
    return tuple(mean.tolist()), tuple(np.maximum(np.sqrt(variance), 1.0).tolist())


def feature_statistics(
    vectors: Vectors, names: Sequence[str], forget: Callable[[], None] = lambda: None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each feature, in its unit, with its mean in the place of a missing value (NaN).

    The deviation of a constant feature is 1, so that it becomes 0 and another value of it elsewhere is not blown up.
    Read twice, block by block; `forget` is called after each block. Raises DataError that names a feature with no value
    at all.
    """
    counts = np.zeros(len(names), dtype=np.int64)
    sums, squares = np.zeros(len(names)), np.zeros(len(names))
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for columns in _columns(vectors, forget):
        counts += np.count_nonzero(~np.isnan(columns), axis=1)
        sums += _sum_of_known(columns)
        low, high = np.fmin(low, np.fmin.reduce(columns, axis=1)), np.fmax(high, np.fmax.reduce(columns, axis=1))
    if not counts.all():
        name = names[int(np.argmin(counts))]
        raise DataError(f"the feature {name!r} has no value in the train split; leave it out (csv: data.ignore)")
    # As the network holds it, and as a missing value is filled.
    mean = (sums / counts).astype(np.float32).astype(np.float64)
    for columns in _columns(vectors, forget):
        squares += _sum_of_known((columns - mean[:, None]) ** 2)
    deviation = np.sqrt(squares / len(vectors))
    # Below the smallest normal number a division in single precision gives infinity.
    is_constant = (low == high) | (deviation < np.finfo(np.float32).tiny)
    return tuple(mean.tolist()), tuple(np.where(is_constant, 1.0, deviation).tolist())


def _columns(vectors: Vectors, forget: Callable[[], None]) -> Iterator[Doubles]:
    """The features of each block of vectors, (features, m), in double precision."""
    for rows in blocks_of(vectors):
        yield np.ascontiguousarray(vectors[rows].T, dtype=np.float64)
        forget()


def _sum_of_known(columns: Doubles) -> Doubles:
    """The sum of each row without what is missing: of the values that are left, as if no other had been there."""
    sums: Doubles = columns.sum(axis=1)
    for row in np.flatnonzero(np.isnan(sums)):  # infinite values are refused before
        sums[row] = columns[row][~np.isnan(columns[row])].sum()
    return sums


def _fill(vectors: Inputs, mean: Sequence[float]) -> None:
    """Put the mean of its feature where a value is missing. The array is ours: it was just filled."""
    for rows in blocks_of(vectors):
        block = vectors[rows]
        missing: npt.NDArray[np.bool_] = np.isnan(block)
        if missing.any():
            block[missing] = np.broadcast_to(np.array(mean, dtype=np.float32), missing.shape)[missing]


def _feature_names(given: tuple[str, ...], examples: Inputs) -> tuple[str, ...]:
    """The names of the features of vectors; feature1, feature2, ... where the reader has none."""
    if examples.ndim != 2:
        return ()
    names = given or tuple(f"feature{number}" for number in range(1, examples.shape[1] + 1))
    if len(names) != examples.shape[1]:
        raise DataError(f"vectors of {examples.shape[1]} features have {len(names)} names; mend the reader")
    return names


def _check(source: Source) -> None:
    for name, part in (("train", source.train), ("test", source.test)):
        if part is not None:
            encode_labels(part.labels, source.classes, lambda row, name=name: f"{name} example {row}")  # type: ignore[misc]
    if len(source.classes) < 2:
        raise DataError(f"there is only one class ({', '.join(source.classes)}); a classifier needs at least two")


def check_augment(augment: AugmentConfig, shape: Sequence[int]) -> None:
    """Refuse what would destroy images, and for vectors whatever is switched on."""
    if len(shape) == 1:
        for key, field in AugmentConfig.model_fields.items():
            if getattr(augment, key) != field.default:
                raise ConfigError(f"data.augment.{key}: makes no sense for vectors, which have no pixels; remove it")
        return
    if augment.colour and shape[0] != 3:
        raise ConfigError("data.augment.colour: makes no sense for grey images, which have no colours; remove it")
    height, width = shape[1:]
    for key in ("crop", "cutout"):
        pixels = getattr(augment, key)
        if pixels >= min(height, width):
            raise ConfigError(
                f"data.augment.{key}: {pixels} pixels would blank whole images of {width}x{height}; "
                f"set less than {min(height, width)}"
            )
