"""The decoded file of a source that has not changed, found without reading the source.

A worker so parses no table that another process has parsed for it. Refuses to guess: what is not one plain file, or has
another size, time of writing or time of change than then, is read anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.store.files import make_directory, write_whole
from nasflow_cli.train.data.load import Cut, Selection, check_augment
from nasflow_cli.train.data.store import FORMAT, Stored, open_whole
from nasflow_cli.train.data.values import Splits

_PLACE = re.compile(r"[0-9a-f]+")


def remember(folder: Path, key: str | None, selection: Selection, stored: Stored) -> None:
    """Write down beside the decoded file how it is cut into splits.

    `key` is what `source_key` was before the selection was made: a source that has changed since has another by now.
    """
    if key is None or reopen(folder, selection.config) is not None:
        return
    cut = selection.cut
    indices = () if cut.test_indices is None else cut.test_indices
    numbers = np.concatenate([cut.labels, np.array(indices, dtype=np.int64)]).astype("<i8").tobytes()
    body = {
        "format": FORMAT,
        "place": stored.path.parent.name,
        "sizes": cut.sizes,
        "classes": cut.classes,
        "features": cut.features,
        "carved": cut.test_indices is not None,
        "numbers": zlib.crc32(numbers),
    }
    make_directory(folder)
    write_whole(folder / f"{key}.labels", numbers)
    # Last: with it all is there.
    write_whole(folder / f"{key}.json", json.dumps({**body, "crc32": _crc_of(body)}) + "\n")


def reopen(folder: Path, config: DataConfig) -> tuple[Splits, Stored] | None:
    """Open what `remember` knows of a source; None where it knows nothing, or of another state of it.

    Raises ConfigError for settings of `data.augment` that do not fit.
    """
    key = source_key(config)
    if key is None:
        return None
    try:
        about = json.loads((folder / f"{key}.json").read_bytes())
        crc, numbers = about.pop("crc32"), (folder / f"{key}.labels").read_bytes()
        if about["format"] != FORMAT or crc != _crc_of(about) or zlib.crc32(numbers) != about["numbers"]:
            return None
        train, validation, test = about["sizes"]
        values = np.frombuffer(numbers, dtype="<i8").astype(np.int64)
        total = train + validation + test
        cut = Cut(
            labels=values[:total],
            sizes=(train, validation, test),
            classes=tuple(about["classes"]),
            features=tuple(about["features"]),
            test_indices=tuple(values[total:].tolist()) if about["carved"] else None,
        )
        if _PLACE.fullmatch(about["place"]) is None:  # a run that somebody else made leads nowhere else
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    found = open_whole(folder / about["place"], cut)
    if found is not None:
        check_augment(config.augment, found[0].input_shape)
    return found


def source_key(config: DataConfig) -> str | None:
    """A name for the settings and the files of a source as they are now; None where it reads more than plain files."""
    if not DATASETS[config.source].facts.get("files") or config.path is None:
        return None
    stamps: list[Any] = []
    for path in (config.path, config.test_path):
        if path is None:
            continue
        try:
            status = Path(path).expanduser().stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        stamps.append((path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    settings = config.model_dump(mode="json", exclude={"augment"})
    return hashlib.sha256(json.dumps([settings, stamps], sort_keys=True).encode()).hexdigest()[:16]


def _crc_of(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())
