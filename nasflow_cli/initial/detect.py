"""From a path to the reader that it is for, by names alone. Opens no file; refuses what no reader can read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasflow_cli.core.errors import DataError, MissingError
from nasflow_cli.train.data.folder import SUFFIXES
from nasflow_cli.train.data.hub_client import is_saved

_FILES = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".npz": "npz",
    ".parquet": "parquet",
    ".tar.gz": "cifar_binary",
    ".tgz": "cifar_binary",
    ".tar": "cifar_binary",
}
_CIFAR_FILES = ("data_batch_1.bin", "train.bin")

READABLE = """what can be read:
  a table               .csv .tsv .csv.gz .tsv.gz, one row an example, with a column of classes
  arrays                .npz with x_train, y_train (x_test, y_test), or x, y, or images, labels
  images                a folder with one sub-folder of images for each class, or train/ and test/ with such sub-folders
  images in parquet     a .parquet file in the layout of Hugging Face, or a folder with train*.parquet (test*.parquet)
  a saved data set      a folder that Hugging Face's `save_to_disk` wrote (needs the extra `hub`)
  CIFAR-10, CIFAR-100   the official binary archive, packed or extracted
  a folder              with one such file, or with train.csv and test.csv, or train.npz and test.npz"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which reader reads it (`source`), and where; `test_path` where the test data is a file of its own."""

    source: str
    path: Path
    test_path: Path | None = None


def detect(path: Path) -> Place:
    """Say how `path` is read. Raises MissingError when nothing is there, DataError that lists what can be read."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise MissingError(f"--data: cannot find {path} ({why}); name a file or folder that is there") from error
    if path.is_dir():
        return Place(source="hub", path=path) if is_saved(path) else _detect_folder(path)
    source = _source_of(path)
    if source is None or not path.is_file():
        raise DataError(f"--data: {path} is of no kind that can be read; {READABLE}")
    if status.st_size == 0:
        raise DataError(f"--data: {path} is empty (0 bytes); fetch it again")
    return Place(source=source, path=path)


def _source_of(path: Path) -> str | None:
    name = path.name.lower()
    return next((source for suffix, source in _FILES.items() if name.endswith(suffix)), None)


def _detect_folder(path: Path) -> Place:
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"--data: {path} cannot be read: {error.strerror}") from error
    if not entries:
        raise DataError(f"--data: the folder {path} is empty; {READABLE}")
    names = {entry.name for entry in entries}
    if not names.isdisjoint(_CIFAR_FILES):
        return Place(source="cifar_binary", path=path)
    if any(name.startswith("train") and name.endswith(".parquet") for name in names):
        return Place(source="parquet", path=path)
    files = [entry for entry in entries if entry.is_file() and _source_of(entry)]
    if files:
        return _detect_files(path, files)
    if any(entry.is_dir() and _holds_images(entry) for entry in entries):
        return Place(source="folder", path=path)
    if (path / "data").is_dir() and any((path / "data").glob("train*.parquet")):  # a data set cloned from the hub
        return Place(source="parquet", path=path / "data")
    shown = ", ".join(entry.name for entry in entries[:8]) + (", ..." if len(entries) > 8 else "")
    raise DataError(f"--data: the folder {path} holds nothing that can be read (it holds {shown}); {READABLE}")


def _detect_files(folder: Path, files: list[Path]) -> Place:
    """A folder's only file, or its `train` file with the `test` file of the same kind beside it."""
    if len(files) == 1:
        return detect(files[0])
    by_name = {file.name.lower(): file for file in files}
    for suffix, source in _FILES.items():
        train, test = by_name.get(f"train{suffix}"), by_name.get(f"test{suffix}")
        if train is not None and source in {"csv", "npz"}:
            return Place(source=source, path=train, test_path=test)
    shown = ", ".join(file.name for file in files[:8]) + (", ..." if len(files) > 8 else "")
    raise DataError(f"--data: {folder} holds several files that can be read ({shown}); name one of them")


def _holds_images(folder: Path, levels: int = 2) -> bool:
    """Whether there is an image in a folder, or in one within it: the class folders may be under `train/`."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return False  # the reader will say so of the folder that it is to read
    if any(entry.suffix.lower() in SUFFIXES for entry in entries):
        return True
    return levels > 1 and any(entry.is_dir() and _holds_images(entry, levels - 1) for entry in entries)
