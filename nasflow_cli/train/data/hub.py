"""`hub`: data sets of images that Hugging Face's package `datasets` reads, by their name on the hub or from a folder.

Refuses columns that are not images. Images are decoded here and not by `datasets`, so that the refusals of all readers
hold; what may be read at all is decided in `hub_client`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import ConfigError, DataError
from nasflow_cli.core.registry import DATASETS, nearest
from nasflow_cli.train.data.checks import encode_labels, refuse
from nasflow_cli.train.data.folder import SUFFIXES
from nasflow_cli.train.data.hub_client import WANTED, failures_named, is_saved, open_data_set
from nasflow_cli.train.data.images import decode_images
from nasflow_cli.train.data.values import Block, Positions, Source, Undecoded

LABEL_COLUMNS = ("label", "labels", "fine_label")

_ROWS = 1024


@DATASETS.register("hub", named=True)
def hub(config: DataConfig) -> Source:
    """Read the split `train`, and `test` where there is one or `data.hub.test` names another.

    Raises MissingError without the package, the network or the data set; DataError for what cannot be used.
    """
    refuse(config.test_path, "data.test_path", "a data set of the hub has splits; name one with data.hub.test")
    if not config.path:
        raise ConfigError(f"data.path: this source reads {WANTED}; set it in the YAML, or pass --set data.path=NAME")
    splits, revision = open_data_set(config.path, config.hub)
    train_name = config.hub.train or "train"
    train = _Split.of(splits, train_name, "data.hub.train", config)
    labels, classes = encode_labels(train.labels(), train.class_names(), train.place)
    test = None
    if config.hub.test is not None or "test" in splits:
        own = _Split.of(splits, config.hub.test or "test", "data.hub.test", config)
        if own.name == train.name:
            raise ConfigError(f"data.hub.test: {own.name!r} is what is trained on; name another split")
        test = Undecoded(labels=_test_labels(own, classes), decode=own.decode)
    return Source(train=Undecoded(labels=labels, decode=train.decode), test=test, classes=classes, revision=revision)


def _test_labels(own: _Split, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    try:
        return encode_labels(own.labels(), classes, own.place)[0]
    except DataError as error:
        raise DataError(
            f"{error}; where the labels of a test split are kept secret, set data.hub.test to a split that has some"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Split:
    """One split. `rows` gives Arrow tables, in which images are as encoded as they were stored."""

    name: str
    rows: Any
    features: Mapping[str, Any]
    image: str
    label: str
    origin: str
    folder: Path | None
    """Where images may lie in files of their own: the folder of images that was read, and none for other data sets."""

    @classmethod
    def of(cls, splits: Any, name: str, key: str, config: DataConfig) -> _Split:
        """Find a split and its columns. Raises ConfigError for names that are not there, DataError for no columns."""
        if name not in splits:
            known = list(map(str, splits))
            raise ConfigError(f"{key}: {config.path} has no split {name!r}{nearest(name, known)} (it has {known})")
        chosen = splits[name]
        if len(chosen) == 0:
            raise DataError(f"{config.path}: the split {name!r} is empty")
        return cls(
            name=name,
            rows=chosen.with_format("arrow"),
            features=chosen.features,
            image=_image_column(chosen.features, config),
            label=_label_column(chosen.features, config),
            origin=f"{config.path}, split {name}",
            folder=_folder_of_images(chosen, Path(config.path or "").expanduser()),
        )

    def place(self, row: int) -> str:
        """Say where a row stands."""
        return f"{self.origin}, row {row}"

    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, where the label column knows them."""
        names = getattr(self.features[self.label], "names", None)
        return tuple(names) if names else None

    def labels(self) -> npt.NDArray[Any]:
        """The label column: numbers, or objects that are strings. Raises DataError for a label that is null."""
        import pyarrow as pa  # noqa: PLC0415  (slow to import, and most commands read no data)

        with failures_named(self.origin):
            column = self.rows.select_columns([self.label])[:].column(0)
            if column.null_count:
                row = column.is_null().to_pylist().index(True)
                raise DataError(f"{self.place(row)}: the column {self.label!r} is null; give every image a label")
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                return np.array(column.to_pylist(), dtype=object)
            values: npt.NDArray[Any] = column.to_numpy()
            return values

    def decode(self, positions: Positions) -> Iterator[Block]:
        """Decode the images at these rows, in the order of the split."""
        return decode_images(self._encoded(positions))

    def _encoded(self, positions: Positions) -> Iterator[tuple[int, str, bytes]]:
        order = np.argsort(positions, kind="stable")
        rows = positions[order]
        images = self.rows.select_columns([self.image])
        for start in range(0, int(rows[-1]) + 1, _ROWS):
            first, last = np.searchsorted(rows, [start, start + _ROWS])
            if first == last:
                continue
            with failures_named(self.origin):
                column = images[start : start + _ROWS].column(0)
            for rank in range(first, last):
                row = int(rows[rank])
                yield int(order[rank]), self.place(row), self._bytes(column[row - start].as_py(), row)

    def _bytes(self, stored: Any, row: int) -> bytes:
        """What is stored of an image: its bytes, or in a folder of images the path of its file."""
        stored = stored or {}
        if stored.get("bytes"):
            return bytes(stored["bytes"])
        path = stored.get("path")
        if path and self.folder is not None:
            try:
                file = Path(path).resolve()
                # What a data set says of itself may be made up: a device would never end, a file elsewhere is private.
                if not file.is_relative_to(self.folder) or file.suffix.lower() not in SUFFIXES or not file.is_file():
                    raise DataError(f"{self.place(row)}: {path} is no image file below {self.folder}; put it there")
                return file.read_bytes()
            except (OSError, ValueError) as error:
                raise DataError(f"{self.place(row)}: {path} cannot be read: {error}") from error
        raise DataError(f"{self.place(row)}: {self.image}.bytes is empty; images must be in the data set itself")


def _folder_of_images(chosen: Any, folder: Path) -> Path | None:
    """A saved data set may claim to have been read from such a folder, and is none."""
    if is_saved(folder) or not folder.is_dir() or getattr(chosen.info, "builder_name", None) != "imagefolder":
        return None
    return folder.resolve()


def _image_column(features: Mapping[str, Any], config: DataConfig) -> str:
    from datasets import Image  # noqa: PLC0415

    found = [name for name, feature in features.items() if isinstance(feature, Image)]
    if config.hub.image is not None:
        if config.hub.image not in found:
            raise ConfigError(f"data.hub.image: {config.hub.image!r} is no column of images; {_listed(features)}")
        return config.hub.image
    if len(found) != 1:
        how = "there is none" if not found else "there are several; name one with data.hub.image"
        raise DataError(f"{config.path}: this source reads one column of images, and {how}; {_listed(features)}")
    return found[0]


def _label_column(features: Mapping[str, Any], config: DataConfig) -> str:
    from datasets import ClassLabel, Value  # noqa: PLC0415

    def is_usable(feature: Any) -> bool:
        return isinstance(feature, (ClassLabel, Value))

    if config.hub.label is not None:
        if not is_usable(features.get(config.hub.label)):
            raise ConfigError(f"data.hub.label: {config.hub.label!r} is no column of labels; {_listed(features)}")
        return config.hub.label
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if len(classes) == 1:
        return classes[0]
    found = classes or [name for name in LABEL_COLUMNS if is_usable(features.get(name))]
    if len(found) != 1:
        how = "there is none that says so" if not found else "there are several"
        raise DataError(
            f"{config.path}: this source needs a column of classes, and {how}; name one with data.hub.label; "
            f"{_listed(features)}"
        )
    return found[0]


def _listed(features: Mapping[str, Any]) -> str:
    return "its columns are " + ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
