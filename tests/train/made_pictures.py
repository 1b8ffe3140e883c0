"""Small data sets of `datasets`: pictures of two kinds."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image as Picture


def pictures(num: int, seed: int = 0, side: int = 4) -> tuple[np.ndarray, list[bytes]]:
    """Random pixels, (n, 3, side, side + 1), and the same as PNG files."""
    pixels = np.random.default_rng(seed).integers(0, 256, (num, side, side + 1, 3), dtype=np.uint8)
    blobs = []
    for each in pixels:
        buffer = io.BytesIO()
        Picture.fromarray(each).save(buffer, "PNG")
        blobs.append(buffer.getvalue())
    return pixels.transpose(0, 3, 1, 2), blobs


def made(blobs: list[bytes | None], labels: Any = None, names: Any = ("cat", "dog"), **more: Any) -> Any:
    """A data set with a column of images `picture` and one of classes `kind`."""
    import datasets  # noqa: PLC0415  (an extra)

    count = len(blobs)
    rows: dict[str, Any] = {"picture": [{"bytes": blob, "path": None} for blob in blobs]}
    rows["kind"] = labels if labels is not None else [number % 2 for number in range(count)]
    kind = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    extra = {name: feature for name, (feature, _) in more.items()}
    rows |= {name: values for name, (_, values) in more.items()}
    return datasets.Dataset.from_dict(rows, datasets.Features(picture=datasets.Image(), kind=kind, **extra))
