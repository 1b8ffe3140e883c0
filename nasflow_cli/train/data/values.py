"""Images with labels, before and after they are split. Refuses arrays of another type or shape; reads no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.errors import DataError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """`images` uint8 (n, channels, height, width), C-contiguous, 1 or 3 channels; `labels` int64 (n,).

    Raises DataError for anything else, and when there are not as many labels as images.
    """

    images: Pixels
    labels: Labels

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in {1, 3}:
            raise DataError(
                f"images are uint8 (n, 1 or 3 channels, height, width), not {images.dtype} {images.shape}; "
                "convert them in the reader"
            )
        if not images.flags.c_contiguous:
            raise DataError("images are C-contiguous; call np.ascontiguousarray in the reader")
        _check_labels(self.labels)
        if len(self.labels) != len(images):
            raise DataError(f"{len(images)} images have {len(self.labels)} labels; each image needs one")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Positions) -> Labelled:
        """Return a copy of the images at `positions`, in that order."""
        return Labelled(images=self.images[positions], labels=self.labels[positions])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Undecoded:
    """Images of which only the labels have been read, so that those that no split takes are never decoded.

    `decode` gets positions, int64 (m,), in any order, and returns uint8 (m, channels, height, width) in that order.
    """

    labels: Labels
    decode: Callable[[Positions], Pixels]

    def __post_init__(self) -> None:
        _check_labels(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Positions) -> Labelled:
        """Decode the images at `positions`, in that order. Raises DataError for one that does not decode."""
        return Labelled(images=np.ascontiguousarray(self.decode(positions)), labels=self.labels[positions])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """What a reader returns: all training images, the test images if it has any, and the class names by label."""

    train: Labelled | Undecoded
    test: Labelled | Undecoded | None
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Splits:
    """The three disjoint splits, each in the order of its source.

    `mean` and `std` are per channel, in units of 0..255, of the train split alone; `std` is at least 1. `test_indices`
    are the positions in the source of the images in `test`, row for row, when it was carved out of the source; None
    when the source brought its own.
    """

    train: Labelled
    validation: Labelled
    test: Labelled
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_indices: tuple[int, ...] | None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """How many classes there are; labels are below it."""
        return len(self.classes)


def _check_labels(labels: npt.NDArray[Any]) -> None:
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataError(f"labels are int64 (n,), not {labels.dtype} {labels.shape}; convert them in the reader")
