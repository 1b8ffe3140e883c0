"""Encoded images to one array. Refuses what is damaged, what has another size, and what is larger than it looks.

Only formats that Pillow decodes in its own process are opened: its EPS reader would start Ghostscript on a file that
came from somewhere.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from nasflow_cli.core.errors import DataError
from nasflow_cli.train.data.values import BLOCK_BYTES, Block, Pixels

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


def decode_images(encoded: Iterable[tuple[int, str, bytes]]) -> Iterator[Block]:
    """Decode (index, place, bytes) into blocks of uint8 (m, channels, height, width).

    One channel in a block whose images are all grey, else three (alpha and palettes are dropped). `place` is for
    messages. Raises DataError with the place of an image that is damaged or of another size than the first.
    """
    first, shape = "", (0, 0)
    held: list[tuple[int, Pixels]] = []
    held_bytes = 0
    for index, place, data in encoded:
        image = _decode(data, place)
        if not first:
            first, shape = place, image.shape[1:]
        if image.shape[1:] != shape:
            raise DataError(
                f"{place} is {image.shape[2]}x{image.shape[1]} pixels and {first} is {shape[1]}x{shape[0]}; "
                "all images must have one size"
            )
        held.append((index, image))
        held_bytes += image.nbytes
        if held_bytes >= BLOCK_BYTES:
            yield _block(held)
            held, held_bytes = [], 0
    if held:
        yield _block(held)


def _block(images: list[tuple[int, Pixels]]) -> Block:
    """Stack images of one size; a grey one is spread over three channels where others have them."""
    channels = max(len(image) for _, image in images)
    pixels = np.empty((len(images), channels, *images[0][1].shape[1:]), dtype=np.uint8)
    for row, (_, image) in enumerate(images):
        pixels[row] = image
    return np.array([index for index, _ in images], dtype=np.int64), pixels


def _decode(data: bytes, place: str) -> Pixels:
    """Decode one image to (1 or 3, height, width)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                if image.mode.startswith(("I", "F")):
                    raise DataError(f"{place} has more than 8 bits a channel ({image.mode}); convert it to 8-bit")
                pixels = np.asarray(image.convert(_KEPT.get(image.mode, "RGB")))
    except _BOMB as error:
        raise DataError(f"{place} is too large to be an image to train on: {error}") from error
    except _DAMAGE as error:
        # Pillow names the buffer that it was given, which says nothing.
        why = "its first bytes are those of no such image" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{place} is not a readable {'/'.join(FORMATS)} image: {why}; replace or remove it") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
