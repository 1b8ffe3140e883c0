"""What every reader checks in the same way: paths and labels. Each message names the file, the row and the value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.errors import ConfigError, DataError, MissingError
from nasflow_cli.train.data.values import Labels

MAX_BYTES = 16 * 2**30
"""No array is made that is larger than this: a file that promises more is damaged or hostile."""

RawLabels = npt.NDArray[Any]
Place = Callable[[int], str]


def existing(path: str | None, key: str, wanted: str) -> Path:
    """Return the absolute path of a file that holds something, or of a folder.

    `key` is the setting that it comes from (`data.path`), `wanted` says what should stand there. Raises ConfigError
    when it is not set, MissingError when nothing is there, and DataError for a file of 0 bytes.
    """
    if not path:
        raise ConfigError(f"{key}: this source reads {wanted}; set it in the YAML, or pass --set {key}=PATH")
    absolute = Path(path).expanduser().absolute()
    try:
        status = absolute.stat()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise MissingError(
            f"{key}: cannot find {absolute} ({why}); set {key} in the YAML, or pass --set {key}=PATH, to {wanted}"
        ) from error
    if absolute.is_file() and status.st_size == 0:
        raise DataError(f"{absolute} is empty (0 bytes); fetch it again")
    if not absolute.is_file() and not absolute.is_dir():
        raise DataError(f"{absolute} is neither a file nor a folder; set {key} to {wanted}")
    return absolute


def existing_file(path: str | None, key: str, wanted: str) -> Path:
    """Like `existing`, and raises DataError for a folder."""
    found = existing(path, key, wanted)
    if not found.is_file():
        raise DataError(f"{found} is a folder; set {key} to {wanted}")
    return found


def existing_folder(path: str | None, key: str, wanted: str) -> Path:
    """Like `existing`, and raises DataError for a file."""
    found = existing(path, key, wanted)
    if not found.is_dir():
        raise DataError(f"{found} is a file; set {key} to {wanted}")
    return found


def refuse(path: str | None, key: str, why: str) -> None:
    """Raise ConfigError when a path is set that the source would ignore."""
    if path is not None:
        raise ConfigError(f"{key}: {path!r} would be ignored: {why}; remove {key}")


def refuse_shared(train: Iterable[Path], test: Iterable[Path]) -> None:
    """Raise ConfigError when a file or folder of the test data is one that is trained on, under whatever name."""
    known = {path.resolve() for path in train}
    for path in test:
        if path.resolve() in known:
            raise ConfigError(
                f"data.test_path: {path} is also what is trained on, and would be no test; set it to other data, or "
                "remove it to have test examples split off"
            )


def encode_labels(raw: RawLabels, classes: Sequence[str] | None, place: Place) -> tuple[Labels, tuple[str, ...]]:
    """Return labels as int64 (n,), 0..k-1, and the k class names.

    `raw` holds whole numbers (of any type) or strings; without `classes`, numbers are named "0".."k-1" and strings are
    sorted. `place(row)` says where a row stands, for messages. Raises DataError with the first row that is wrong.
    """
    if raw.ndim == 2 and raw.shape[1] == 1:  # as Keras stores CIFAR
        raw = raw[:, 0]
    if raw.ndim != 1:
        raise DataError(
            f"{place(0)}: labels are one number an image, not an array of shape {raw.shape}; of one-hot labels save "
            "np.argmax(labels, axis=1)"
        )
    if len(raw) == 0:
        raise DataError(f"{place(0)}: there are no images")
    if raw.dtype.kind in "OU":
        return _encode_names(raw, classes, place)
    if raw.dtype.kind not in "biuf":
        raise DataError(f"{place(0)}: labels are whole numbers or strings, not {raw.dtype}")
    # Without names, a label that is not below the number of images leaves some class without any.
    bound = len(raw) if classes is None else len(classes)
    bad = ~((raw >= 0) & (raw < bound))  # NaN compares as false
    if raw.dtype.kind == "f":
        bad |= raw != np.floor(raw)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{place(row)}: label {raw[row].item()!r} is not a whole number within 0..{bound - 1} "
            f"({'there are only so many images' if classes is None else f'there are {bound} classes'})"
        )
    labels = np.ascontiguousarray(raw, dtype=np.int64)
    return labels, tuple(classes or map(str, range(int(labels.max()) + 1)))


def _encode_names(raw: RawLabels, classes: Sequence[str] | None, place: Place) -> tuple[Labels, tuple[str, ...]]:
    names = raw.tolist()
    known = None if classes is None else {name: label for label, name in enumerate(classes)}
    for row, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(f"{place(row)}: label {name!r} is not a string; give every image a label")
        if known is not None and name not in known:
            raise DataError(f"{place(row)}: label {name!r} is not one of the {len(known)} classes")
    if known is None:
        known = {name: label for label, name in enumerate(sorted(set(names)))}
    return np.array([known[name] for name in names], dtype=np.int64), tuple(known)
