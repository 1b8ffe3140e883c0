"""Blocks of examples to one array, in memory or where its `Room` says. Refuses what is not alike; decodes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from nasflow_cli.core.errors import DataError
from nasflow_cli.train.data.checks import MAX_BYTES
from nasflow_cli.train.data.values import Inputs, Labelled, Positions, Undecoded, blocks_of

Part = tuple[Labelled | Undecoded, Positions]
"""Examples of a source, and which of them are wanted."""


class Room(Protocol):
    """Where decoded examples are put."""

    def make(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Inputs:
        """Return an array to fill. Called again when grey images turn out to be among colour ones."""
        ...

    def forget(self) -> None:
        """What was read or written so far need not stay in memory."""
        ...


class Memory:
    """Room in memory, for no more than any array may take."""

    def make(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Inputs:
        """Return an array. Raises DataError for one that would be too large."""
        if math.prod(shape) * dtype.itemsize > MAX_BYTES:
            raise DataError(
                f"{shape[0]} {shown(shape[1:])} take more than {MAX_BYTES >> 30} GiB, the most that is held "
                "in memory; scale them down, set data.train_limit and data.test_limit, or have them streamed "
                "(executor.data_gib: less than they take)"
            )
        return np.empty(shape, dtype=dtype)

    def forget(self) -> None:
        """Nothing: what is in memory is there to stay."""


def gather(parts: Sequence[Part], room: Room) -> Inputs:
    """Put what is wanted of the training data, and of the test data if it is apart, into one array of `room`.

    Images become colour images where any is one. Raises DataError where the two differ otherwise, and for examples
    that have labels and are not there.
    """
    total = sum(len(positions) for _, positions in parts)
    array: Inputs | None = None
    begin = 0
    for part, positions in parts:
        filled = 0
        for indices, block in part.blocks(positions):
            _check(block)
            if array is None:
                array = room.make((total, *block.shape[1:]), block.dtype)
            _check_alike(array, block)
            if block.ndim == 4 and block.shape[1] > array.shape[1]:
                array = _widened(array, block.shape[1], room)
            array[begin + indices] = block
            filled += len(indices)
            room.forget()
        if filled != len(positions):
            raise DataError(f"{filled} examples are there where {len(positions)} have labels; fetch the data again")
        begin += len(positions)
    if array is None:
        raise DataError("there are no examples; give some")
    return array


def _check(block: Inputs) -> None:
    Labelled(images=np.ascontiguousarray(block), labels=np.zeros(len(block), dtype=np.int64))  # says what is wrong


def _widened(grey: Inputs, channels: int, room: Room) -> Inputs:
    wide = room.make((len(grey), channels, *grey.shape[2:]), grey.dtype)
    for rows in blocks_of(wide):
        wide[rows] = grey[rows]
        room.forget()
    return wide


def _check_alike(array: Inputs, block: Inputs) -> None:
    ours, theirs = array.shape[1:], block.shape[1:]
    if len(ours) != 3 or len(theirs) != 3:
        if ours != theirs:
            raise DataError(f"training data is {shown(ours)} and test data {shown(theirs)}; both must be alike")
    elif ours[1:] != theirs[1:]:
        raise DataError(
            f"training images are {ours[2]}x{ours[1]} pixels and test images {theirs[2]}x{theirs[1]}; "
            "all images must have one size"
        )


def shown(shape: Sequence[int]) -> str:
    """An input shape in words: vectors of 13 features, images of 32x32 pixels."""
    if len(shape) == 1:
        return f"vectors of {shape[0]} features"
    return f"images of {shape[2]}x{shape[1]} pixels"
