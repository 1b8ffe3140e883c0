"""Encoded images to one array. Refuses what is damaged, what has another size, and what is larger than it looks.

Only formats that Pillow decodes in its own process are opened: its EPS reader would start Ghostscript on a file that
came from somewhere.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterable
from io import BytesIO

import numpy as np
from PIL import Image

from nasflow_cli.core.errors import DataError
from nasflow_cli.train.data.checks import MAX_BYTES
from nasflow_cli.train.data.values import Pixels

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")

_KEPT = {"L": "L", "RGB": "RGB", "1": "L"}
_DAMAGE = (
    OSError,
    SyntaxError,  # a broken PNG
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode_images(encoded: Iterable[tuple[int, str, bytes]], count: int) -> Pixels:
    """Decode (position, place, bytes) into uint8 (count, channels, height, width).

    One channel when all are grey, else three (alpha and palettes are dropped). Every position is given once; `place`
    is for messages. Raises DataError with the place of an image that is damaged or of another size.
    """
    pixels: Pixels | None = None
    first, filled = "", 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for position, place, data in encoded:
            image = _decode(data, place)
            if pixels is None:
                pixels, first = _room(count, image.shape, place), place
            if image.shape[1:] != pixels.shape[2:]:
                raise DataError(
                    f"{place} is {image.shape[2]}x{image.shape[1]} pixels and {first} is "
                    f"{pixels.shape[3]}x{pixels.shape[2]}; all images must have one size"
                )
            if len(image) > pixels.shape[1]:
                grey, pixels = pixels, _room(count, image.shape, place)
                pixels[:] = grey
            pixels[position] = image  # a grey image is spread over three channels
            filled += 1
    if pixels is None or filled != count:
        raise DataError(f"{first or 'the source'}: {filled} images are there where {count} have labels; fetch it again")
    return pixels


def _decode(data: bytes, place: str) -> Pixels:
    """Decode one image to (1 or 3, height, width)."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{place} has more than 8 bits a channel ({image.mode}); convert it to 8-bit")
            pixels = np.asarray(image.convert(_KEPT.get(image.mode, "RGB")))
    except _BOMB as error:
        raise DataError(f"{place} is too large to be an image to train on: {error}") from error
    except _DAMAGE as error:
        raise DataError(f"{place} is not a readable {'/'.join(FORMATS)} image: {error}") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _room(count: int, shape: tuple[int, ...], place: str) -> Pixels:
    if count * int(np.prod(shape)) > MAX_BYTES:
        raise DataError(
            f"{count} images of {shape[2]}x{shape[1]} pixels (as {place}) take more than {MAX_BYTES >> 30} GiB; "
            "scale them down, or set data.train_limit and data.test_limit"
        )
    return np.empty((count, *shape), dtype=np.uint8)
