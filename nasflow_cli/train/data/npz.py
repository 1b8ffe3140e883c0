"""`npz`: arrays that NumPy saved. Refuses pickled objects, and arrays larger than their file can hold.

Keys are `x_train`, `y_train` and perhaps `x_test`, `y_test`; or `x`, `y`; or `images`, `labels`. Images are
(n, height, width), or have their 1 or 3 channels second or last. They are uint8, or numbers whose range leaves no doubt
about their scale. Numbers of shape (n, features) are vectors, which are finite and kept in single precision. Images of
uint8 are read block by block and may be more than memory holds; all else is read at once.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.train.data.checks import MAX_BYTES, encode_labels, existing_file, refuse_shared
from nasflow_cli.train.data.values import BLOCK_BYTES, Block, Labelled, Positions, Source, Undecoded, Vectors

Array = npt.NDArray[Any]

_WANTED = "an .npz file with x_train, y_train (x_test, y_test)"
_TRAIN_KEYS = (("x_train", "y_train"), ("x", "y"), ("images", "labels"))
_TEST_KEYS = (("x_test", "y_test"), ("x", "y"), ("images", "labels"))
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,  # an encrypted member; NotImplementedError: a compression that Python lacks
    MemoryError,
)


@DATASETS.register("npz", files=True)
def npz(config: DataConfig) -> Source:
    """Read arrays; `test_path` goes before an `x_test` beside `x_train`. Raises DataError for what is not clear."""
    path = existing_file(config.path, "data.path", _WANTED)
    found = _pair(path, _TRAIN_KEYS)
    if found is None:
        raise DataError(f"{path} needs {_listed(_TRAIN_KEYS)}; it holds {', '.join(_members(path)) or 'nothing'}")
    train, classes, scale = _split(path, found, None)
    test_path, test_found = path, _pair(path, _TEST_KEYS[:1])
    if config.test_path is not None:
        test_path = existing_file(config.test_path, "data.test_path", _WANTED.replace("train", "test"))
        test_found = _pair(test_path, _TEST_KEYS)
        if test_found is None:
            raise DataError(f"{test_path} needs {_listed(_TEST_KEYS)}; it holds {', '.join(_members(test_path))}")
        if test_found == found:
            refuse_shared([path], [test_path])
    if test_found is None:
        missing = set(_TEST_KEYS[0]) - set(_members(path))
        if len(missing) == 1:
            raise DataError(
                f"{path} holds half of its test data: {missing.pop()} is missing; add it, or leave out both"
            )
        return Source(train=train, test=None, classes=classes)
    test, _, test_scale = _split(test_path, test_found, classes)
    if test_scale != scale and None not in {scale, test_scale}:
        raise DataError(f"{path}: {found[0]} is in 0..{scale} and {test_path}: {test_found[0]} in 0..{test_scale}")
    return Source(train=train, test=test, classes=classes)


def _split(
    path: Path, keys: tuple[str, str], classes: tuple[str, ...] | None
) -> tuple[Labelled | Undecoded, tuple[str, ...], int | None]:
    """Read one pair of arrays. Return it, the class names, and 1 or 255: the top of the scale that images have."""
    place, raw = f"{path}: {keys[0]}", _array(path, keys[1])
    shape = _pixel_shape(path, keys[0])
    # Of pixels there is only the shape so far.
    images = _array(path, keys[0]) if shape is None else np.broadcast_to(np.uint8(0), shape)
    if len(images) == 0:
        raise DataError(f"{place} holds no images")
    if len(images) != len(raw):
        raise DataError(f"{place} has {len(images)} images, and {keys[1]} {len(raw)} labels; each image needs one")
    labels, classes = encode_labels(raw, classes, lambda row: f"{path}: {keys[1]}, row {row}")
    if images.ndim == 2:
        return Labelled(images=_vectors(images, place), labels=labels), classes, None
    ordered = _channels_second(images, place)
    if shape is not None:

        def decode(positions: Positions) -> Iterator[Block]:
            return _pixels(path, keys[0], positions)

        return Undecoded(labels=labels, decode=decode), classes, 255
    scale = _scale(ordered, place)
    if scale == 1:
        pixels = np.rint(ordered * 255.0).astype(np.uint8)
    else:
        pixels = (np.rint(ordered) if ordered.dtype.kind == "f" else ordered).astype(np.uint8)
    return Labelled(images=np.ascontiguousarray(pixels), labels=labels), classes, scale


def _pixel_shape(path: Path, key: str) -> tuple[int, ...] | None:
    """The shape of images that can be read block by block; None for what has to be read at once."""
    with _opened(path, key) as (_, shape, fortran, dtype):
        return shape if dtype == np.uint8 and len(shape) in {3, 4} and not fortran and 0 not in shape else None


def _pixels(path: Path, key: str, positions: Positions) -> Iterator[Block]:
    """Read through images once, to the end, where a damaged member is known by its checksum."""
    order = np.argsort(positions, kind="stable")
    rows = positions[order]
    with _opened(path, key) as (member, shape, _, _):
        row_bytes = math.prod(shape[1:])
        size = max(1, BLOCK_BYTES // row_bytes)
        for start in range(0, shape[0], size):
            wanted = min(size, shape[0] - start) * row_bytes
            data = member.read(wanted)
            if len(data) < wanted:
                raise EOFError("it ends too early")
            first, last = np.searchsorted(rows, [start, start + size])
            if first < last:
                images = np.frombuffer(data, dtype=np.uint8).reshape(-1, *shape[1:])[rows[first:last] - start]
                yield order[first:last], np.ascontiguousarray(_channels_second(images, f"{path}: {key}"))
        member.read(1)  # the checksum is compared at the end


def _vectors(values: Array, place: str) -> Vectors:
    """Numbers (n, features) in single precision. Raises DataError for what is not finite there."""
    if values.dtype.kind not in "iuf" or values.shape[1] == 0:
        raise DataError(f"{place} holds {values.dtype} {values.shape}; vectors are numbers (n, features)")
    with np.errstate(over="ignore"):  # found below
        vectors = np.ascontiguousarray(values, dtype=np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        row, feature = np.argwhere(~finite)[0].tolist()
        raise DataError(
            f"{place}, row {row}, feature {feature}: {values[row, feature].item()!r} is no finite number of single "
            "precision; mend it, or give the data as csv, where a missing value is replaced by the mean"
        )
    return vectors


def _channels_second(images: Array, place: str) -> Array:
    """View images as (n, channels, height, width)."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise DataError(
            f"{place} has the shape {images.shape}; images are (n, h, w), (n, c, h, w) or "
            "(n, h, w, c), vectors (n, features)"
        )
    second, last = images.shape[1] in {1, 3}, images.shape[3] in {1, 3}
    if second == last:
        why = "both the second and the last axis" if second else "neither the second nor the last axis"
        raise DataError(f"{place} has the shape {images.shape}, where {why} can be 1 or 3 channels")
    return images if second else images.transpose(0, 3, 1, 2)


def _scale(images: Array, place: str) -> int:
    """Return 1 for fractions, 255 for grey levels. Raises DataError when the values may be either or neither."""
    if images.dtype == np.uint8:
        return 255
    if images.dtype.kind not in "iuf" or images.size == 0:
        raise DataError(f"{place} holds {images.dtype} {images.shape}; save uint8 images in 0..255")
    low, high = float(images.min()), float(images.max())
    if not math.isfinite(low + high):
        row = int(np.argwhere(~np.isfinite(images))[0, 0])
        raise DataError(f"{place}, row {row}: a pixel is no finite number; mend it, or remove the image")
    if low >= 0 and high <= 255:  # false for NaN
        if images.dtype.kind in "iu":
            return 255
        if high <= 1:
            return 1
        # Whole numbers, or numbers that reach far up, are grey levels; 3.7 as the largest is anybody's guess.
        if high >= 128 or bool((images == np.floor(images)).all()):
            return 255
    raise DataError(
        f"{place} holds {images.dtype} within {low:g}..{high:g}, which is neither 0..1 nor 0..255 for certain; "
        "save uint8 images in 0..255"
    )


def _array(path: Path, key: str) -> Array:
    """Read one array, after its header has said that it is plain, and no larger than the file allows."""
    with _opened(path, key), np.load(path, allow_pickle=False) as arrays:
        array: Array = arrays[key]
    if array.ndim == 0:
        raise DataError(f"{path}: {key} is a single value, not an array")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: Path, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
    """Open a member behind its header: its bytes, shape, whether in Fortran's order, and type. Raises DataError."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
            yield member, *_header(f"{path}: {key}", member, archive.getinfo(f"{key}.npy").file_size)
    except _DAMAGE as error:
        raise DataError(f"{path}: {key} cannot be read: {error}; save it again with np.savez") from error


def _header(place: str, member: Any, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"{place} has the format version {version}; save it again with np.savez")
    shape, fortran, dtype = readers[version](member)
    if dtype.hasobject:
        raise DataError(f"{place} holds Python objects, which can run code when read; save plain numbers or strings")
    num_bytes = dtype.itemsize * math.prod(shape)
    # Images of uint8 are never in memory all at once; how many may be is decided where they are put.
    at_once = math.prod(shape[1:]) if dtype == np.uint8 and len(shape) in {3, 4} and not fortran else num_bytes
    if max(at_once, size if at_once == num_bytes else 0) > MAX_BYTES:
        raise DataError(f"{place} takes {max(num_bytes, size)} bytes, more than {MAX_BYTES >> 30} GiB; save less")
    if num_bytes > size:
        raise DataError(f"{place} is cut short: {shape} {dtype} takes {num_bytes} bytes, and it has {size}")
    return shape, fortran, dtype


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except _DAMAGE as error:
        raise DataError(f"{path} is not a whole .npz file: {error}; fetch or save it again") from error


def _pair(path: Path, pairs: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    names = set(_members(path))
    return next((pair for pair in pairs if names.issuperset(pair)), None)


def _listed(pairs: tuple[tuple[str, str], ...]) -> str:
    return ", or ".join(" and ".join(pair) for pair in pairs)
