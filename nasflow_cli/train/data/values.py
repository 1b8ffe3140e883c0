"""Images or vectors with labels, before and after they are split. Refuses other types and shapes; reads no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.errors import DataError

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]
Inputs = npt.NDArray[np.uint8 | np.float32]
Labels = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int64]
Block = tuple[Positions, Inputs]
"""Some of the examples that were asked for: which of them they are, int64 (m,), and what they hold, (m, ...)."""

BLOCK_BYTES = 2**23
"""About how much is decoded at a time: what is larger than memory is written down block by block."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """Inputs and their `labels`, int64 (n,). C-contiguous `images` are of one of two kinds.

    Images: uint8 (n, channels, height, width), 1 or 3 channels. Vectors: float32 (n, features), never infinite; NaN
    stands for a missing value until `load_splits` replaces it. Raises DataError for anything else, and when there are
    not as many labels as images.
    """

    images: Inputs
    labels: Labels

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype == np.float32 and images.ndim == 2:
            # What is mapped from a file was looked at when it was written, and may be larger than memory.
            is_known = isinstance(images, np.memmap)
            infinite = not is_known and any(np.isinf(images[rows]).any() for rows in blocks_of(images))
            if images.shape[1] == 0 or infinite:
                raise DataError("vectors have at least one feature and no infinite value; mend them in the reader")
        elif images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in {1, 3}:
            raise DataError(
                "images are uint8 (n, 1 or 3 channels, height, width) and vectors float32 (n, features), "
                f"not {images.dtype} {images.shape}; convert them in the reader"
            )
        if not images.flags.c_contiguous:
            raise DataError("images are C-contiguous; call np.ascontiguousarray in the reader")
        _check_labels(self.labels)
        if len(self.labels) != len(images):
            raise DataError(f"{len(images)} images have {len(self.labels)} labels; each image needs one")

    def __len__(self) -> int:
        return len(self.labels)

    def blocks(self, positions: Positions) -> Iterator[Block]:
        """Copy the images at `positions`, as `Undecoded` does."""
        for rows in blocks_of(self.images, len(positions)):
            yield np.arange(rows.start, rows.stop), self.images[positions[rows]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Undecoded:
    """Images or vectors of which only the labels have been read, so that what no split takes is never decoded.

    `decode` gets positions, int64 (m,), in any order, and yields each of them once, in blocks: indices into those
    positions, and what `Labelled.images` holds of them. Blocks come in any order, are about `BLOCK_BYTES` large, and
    are alike but for their channels: a block of grey images may have one where others have three.
    """

    labels: Labels
    decode: Callable[[Positions], Iterator[Block]]

    def __post_init__(self) -> None:
        _check_labels(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def blocks(self, positions: Positions) -> Iterator[Block]:
        """Decode the images at `positions`. Raises DataError for one that does not decode."""
        return self.decode(positions)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """What a reader returns: all that may be trained on, the test data if it has any, and the class names by label.

    `features` names the features of vectors in their order; a reader without names leaves it empty. `revision` is the
    version that was read, where the data has some: reading that one again gives the same. `notes` are sentences about
    what lies there and is not read; a user should hear of them.
    """

    train: Labelled | Undecoded
    test: Labelled | Undecoded | None
    classes: tuple[str, ...]
    features: tuple[str, ...] = ()
    revision: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Splits:
    """The three disjoint splits, each in the order of its source.

    `mean` and `std` are of the train split alone. Of images: per channel, in units of 0..255, `std` at least 1. Of
    vectors: per feature, in the feature's own unit, `std` 1 where the feature is constant; a missing value has been
    replaced by the feature's mean. `test_indices` are the positions in the source of what is in `test`, row for row,
    when it was carved out of the source; None when the source brought its own. `features` names the features of
    vectors and is empty for images.
    """

    train: Labelled
    validation: Labelled
    test: Labelled
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_indices: tuple[int, ...] | None
    features: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of every image, or (features,) of every vector."""
        return tuple(self.train.images.shape[1:])

    @property
    def num_classes(self) -> int:
        """How many classes there are; labels are below it."""
        return len(self.classes)


def _check_labels(labels: npt.NDArray[Any]) -> None:
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataError(f"labels are int64 (n,), not {labels.dtype} {labels.shape}; convert them in the reader")


def blocks_of(inputs: Inputs, count: int | None = None) -> Iterator[slice[int, int, None]]:
    """Consecutive slices of so many rows (None: all) like those of `inputs`, each of about `BLOCK_BYTES`."""
    total = len(inputs) if count is None else count
    row_bytes = max(1, inputs[:1].nbytes)
    size = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
