"""`folder`: one sub-folder of image files for each class, or `train/` and `test/` with such sub-folders each.

Hidden entries are skipped. What else is not read (files of other types, folders in a class, `val/`) is counted and
told; a class folder without an image is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import DataError
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.train.data.checks import existing_folder, refuse_shared
from nasflow_cli.train.data.images import decode_images
from nasflow_cli.train.data.values import Block, Positions, Source, Undecoded

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}

_WANTED = "a folder with one sub-folder of images for each class"


@DATASETS.register("folder")
def folder(config: DataConfig) -> Source:
    """Read class folders; sorted, their names are the classes. `test_path` goes before a `test/` beside `train/`.

    `train/` counts as a split, and not as a class of that name, when it holds folders itself. Raises
    DataError for an empty class, or for test images of a class that training lacks.
    """
    root = existing_folder(config.path, "data.path", _WANTED)
    test_root, notes = None, []
    if (root / "train").is_dir() and _folders(root / "train"):
        notes += _beside_train(root)
        root, test_root = root / "train", root / "test"
    if config.test_path is not None:
        test_root = existing_folder(config.test_path, "data.test_path", _WANTED)
    classes = tuple(entry.name for entry in _folders(root))
    if not classes:
        raise DataError(f"{root} holds no class folders; put the images of each class in a sub-folder of its name")
    train, unread = _read(root, classes)
    test = None
    if test_root is not None and test_root.is_dir():
        refuse_shared(_folders(root), _folders(test_root))
        test, unread_too = _read(test_root, classes)
        unread += unread_too
    notes += unread
    return Source(train=train, test=test, classes=classes, notes=tuple(notes))


def _beside_train(root: Path) -> list[str]:
    others = [entry.name for entry in _folders(root) if entry.name not in {"train", "test"}]
    if not others:
        return []
    return [f"{root} also holds {', '.join(others)}, of which nothing is read: validation images are taken from train"]


def _unread(root: Path, skipped: list[Path]) -> list[str]:
    """Say how many entries of a split are no images that are read: a class may be larger than it seems to be."""
    if not skipped:
        return []
    kinds = Counter("folders" if entry.is_dir() else entry.suffix.lower() or "without a suffix" for entry in skipped)
    known = " ".join(sorted(SUFFIXES))
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return [f"{root}: not read are {counts}; images are files {known} in the folder of their class"]


def _is_image(entry: Path) -> bool:
    return entry.suffix.lower() in SUFFIXES and entry.is_file()


def _read(root: Path, classes: tuple[str, ...]) -> tuple[Undecoded, list[str]]:
    """List the images of one split, class by class, by name, and say what is not read."""
    files: list[Path] = []
    labels: list[int] = []
    skipped: list[Path] = []
    for entry in _visible(root):
        if not entry.is_dir():
            skipped += [entry] if entry.suffix.lower() in SUFFIXES else []
            continue
        if entry.name not in classes:
            raise DataError(f"{entry}: there are no training images of class {entry.name!r}; add some, or remove it")
        images: list[Path] = []
        for file in _visible(entry):
            (images if _is_image(file) else skipped).append(file)
        if not images:
            raise DataError(f"{entry} holds no image ({' '.join(sorted(SUFFIXES))}); add some, or remove the folder")
        files += images
        labels += [classes.index(entry.name)] * len(images)

    def decode(positions: Positions) -> Iterator[Block]:
        return decode_images(_encoded(files[position] for position in positions))

    return Undecoded(labels=np.array(labels, dtype=np.int64), decode=decode), _unread(root, skipped)


def _encoded(files: Iterable[Path]) -> Iterator[tuple[int, str, bytes]]:
    for position, file in enumerate(files):
        try:
            data = file.read_bytes()
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
        yield position, str(file), data


def _folders(root: Path) -> list[Path]:
    return [entry for entry in _visible(root) if entry.is_dir()]


def _visible(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}") from error
