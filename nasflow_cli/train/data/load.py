"""From the `data:` section to the three splits. What a source may hold is checked here, once for all readers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.config import AugmentConfig, DataConfig
from nasflow_cli.core.errors import ConfigError, DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.train.data.checks import encode_labels
from nasflow_cli.train.data.splits import choose_splits
from nasflow_cli.train.data.values import Labelled, Pixels, Source, Splits, Vectors


def load_splits(config: DataConfig) -> Splits:
    """Read a source and split it; only what is in some split is decoded.

    The same configuration and files give the same splits. Raises MissingError when there is nothing at the path,
    DataError when what is there cannot be used, and ConfigError for settings that do not fit the source.
    """
    source: Source = DATASETS[config.source].make(config)
    _check(source)
    own = source.test
    chosen = choose_splits(source.train.labels, None if own is None else own.labels, source.classes, config)
    # One decoding for all that comes from the same images: sizes and colours are compared in one place.
    sizes = [len(chosen.train), len(chosen.validation)] + ([len(chosen.test)] if own is None else [])
    order = np.concatenate([chosen.train, chosen.validation] + ([chosen.test] if own is None else []))
    parts = _cut(source.train.take(order), sizes)
    if own is not None:
        parts.append(own.take(chosen.test))
    train, validation, test = _alike(parts)
    _check_augment(config.augment, train)
    features = _feature_names(source, train)
    if train.images.ndim == 2:
        mean, std = feature_statistics(np.asarray(train.images, np.float32), features)
        for part in (train, validation, test):
            _fill(part, mean)
    else:
        mean, std = statistics(np.asarray(train.images, np.uint8))
    return Splits(
        train=train,
        validation=validation,
        test=test,
        classes=source.classes,
        mean=mean,
        std=std,
        test_indices=tuple(map(int, chosen.test)) if own is None else None,
        features=features,
    )


def statistics(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of 0..255; the deviation is at least 1.

    Exact: sums of whole numbers, in blocks, so that no copy of the images is made in floating point.
    """
    channels = images.shape[1]
    histogram = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), 1024):
        block = images[start : start + 1024]
        for channel in range(channels):
            histogram[channel] += np.bincount(block[:, channel].reshape(-1), minlength=256)
    values, count = np.arange(256, dtype=np.float64), histogram[0].sum()
    mean = histogram @ values / count
    variance = (histogram * (values[None] - mean[:, None]) ** 2).sum(axis=1) / count
    return tuple(mean.tolist()), tuple(np.maximum(np.sqrt(variance), 1.0).tolist())


def feature_statistics(vectors: Vectors, names: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each feature, in its unit, with its mean in the place of a missing value (NaN).

    The deviation of a constant feature is 1, so that it becomes 0 and another value of it elsewhere is not blown up.
    Raises DataError that names a feature with no value at all.
    """
    mean, std = [], []
    for name, column in zip(names, vectors.T, strict=True):  # feature by feature: no second copy of all in memory
        values = column[~np.isnan(column)].astype(np.float64)
        if len(values) == 0:
            raise DataError(f"the feature {name!r} has no value in the train split; leave it out (csv: data.ignore)")
        centre = float(np.float32(values.mean()))  # as the network holds it, and as a missing value is filled
        deviation = float(np.sqrt(((values - centre) ** 2).sum() / len(column)))
        # Below the smallest normal number a division in single precision gives infinity.
        is_constant = values.min() == values.max() or deviation < np.finfo(np.float32).tiny
        mean.append(centre)
        std.append(1.0 if is_constant else deviation)
    return tuple(mean), tuple(std)


def _fill(part: Labelled, mean: Sequence[float]) -> None:
    """Put the mean of its feature where a value is missing. The arrays are ours: each was just decoded or copied."""
    missing: npt.NDArray[np.bool_] = np.isnan(part.images)
    part.images[missing] = np.broadcast_to(np.array(mean, dtype=np.float32), missing.shape)[missing]


def _feature_names(source: Source, train: Labelled) -> tuple[str, ...]:
    """The names of the features of vectors; feature1, feature2, ... where the reader has none."""
    if train.images.ndim != 2:
        return ()
    names = source.features or tuple(f"feature{number}" for number in range(1, train.images.shape[1] + 1))
    if len(names) != train.images.shape[1]:
        raise DataError(f"vectors of {train.images.shape[1]} features have {len(names)} names; mend the reader")
    return names


def _check(source: Source) -> None:
    for name, part in (("train", source.train), ("test", source.test)):
        if part is not None:
            encode_labels(part.labels, source.classes, lambda row, name=name: f"{name} example {row}")  # type: ignore[misc]
    if len(source.classes) < 2:
        raise DataError(f"there is only one class ({', '.join(source.classes)}); a classifier needs at least two")


def _cut(whole: Labelled, sizes: list[int]) -> list[Labelled]:
    """Cut one array into consecutive parts, without copies."""
    ends = np.cumsum(sizes)
    return [
        Labelled(images=whole.images[end - size : end], labels=whole.labels[end - size : end])
        for size, end in zip(sizes, ends, strict=True)
    ]


def _alike(parts: list[Labelled]) -> list[Labelled]:
    """Give all parts the same channels: grey becomes colour where others are. Raises DataError for other sizes."""
    first, last = parts[0].images.shape, parts[-1].images.shape
    if 2 in {len(first), len(last)}:
        if first[1:] != last[1:]:
            raise DataError(f"training data is {shown(first[1:])} and test data {shown(last[1:])}; both must be alike")
        return parts
    if first[2:] != last[2:]:
        raise DataError(
            f"training images are {first[3]}x{first[2]} pixels and test images {last[3]}x{last[2]}; "
            "all images must have one size"
        )
    channels = max(part.images.shape[1] for part in parts)
    return [
        part
        if part.images.shape[1] == channels
        else Labelled(images=np.repeat(part.images, channels, axis=1), labels=part.labels)
        for part in parts
    ]


def shown(shape: Sequence[int]) -> str:
    """An input shape in words: vectors of 13 features, images of 32x32 pixels."""
    if len(shape) == 1:
        return f"vectors of {shape[0]} features"
    return f"images of {shape[2]}x{shape[1]} pixels"


def _check_augment(augment: AugmentConfig, train: Labelled) -> None:
    """Refuse what would destroy images, and for vectors whatever is switched on."""
    if train.images.ndim == 2:
        for key, field in AugmentConfig.model_fields.items():
            if getattr(augment, key) != field.default:
                raise ConfigError(f"data.augment.{key}: makes no sense for vectors, which have no pixels; remove it")
        return
    if augment.colour and train.images.shape[1] != 3:
        raise ConfigError("data.augment.colour: makes no sense for grey images, which have no colours; remove it")
    height, width = train.images.shape[2:]
    for key in ("crop", "cutout"):
        pixels = getattr(augment, key)
        if pixels >= min(height, width):
            raise ConfigError(
                f"data.augment.{key}: {pixels} pixels would blank whole images of {width}x{height}; "
                f"set less than {min(height, width)}"
            )
