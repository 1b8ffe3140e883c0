"""Random changes of training images, by arithmetic where the images lie. Keeps no state.

A label is touched by `mix` alone, which says how much of it is another's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nasflow_cli.core.data_config import AugmentConfig


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Change each image on its own: its colours, mirror it, shift it over black, blank a square.

    `images` is (n, channels, height, width) in raw units of 0..255, of any number type; type, device and memory format
    are kept, and the input is left as it is. With nothing switched on the same tensor is returned. What is drawn
    depends on the generator's seed and on n alone; it is drawn on the generator's device.
    """
    result = images
    if config.colour:
        result = _recolour(result, config.colour, generator)
    if config.flip or config.crop:
        result = _move(result, config, generator)
    if config.cutout:
        result = _cut_out(result, config.cutout, generator)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Blended images, float32 in raw units. Each is `share` (n,) itself, with its label, and the rest another's."""

    images: Tensor
    share: Tensor
    others: Tensor
    """Labels of the other images, (n,)."""


def mix(images: Tensor, labels: Tensor, share: Tensor, generator: torch.Generator) -> Mixed:
    """Blend each image with one of the same batch, which may be itself (mixup, Zhang et al. 2018)."""
    order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
    pixels = images.float()
    return Mixed(
        images=_like(torch.lerp(pixels[order], pixels, share[:, None, None, None]), images),
        share=share,
        others=labels[order],
    )


_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""


def _recolour(images: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Scale brightness, then the distance to the image's mean grey, then to each pixel's own grey; clip at the end."""
    factors = torch.rand((3, len(images), 1, 1, 1), generator=generator, device=generator.device).to(images.device)
    brightness, contrast, saturation = 1.0 + most * (2.0 * factors - 1.0)
    pixels = images.float() * brightness
    mean = _grey(pixels).mean((2, 3), keepdim=True)
    pixels = mean + contrast * (pixels - mean)
    grey = _grey(pixels)
    pixels = (grey + saturation * (pixels - grey)).clamp_(0.0, 255.0)
    return _like((pixels if images.is_floating_point() else pixels.round_()).to(images.dtype), images)


def _grey(pixels: Tensor) -> Tensor:
    """How bright each pixel is, (n, 1, height, width)."""
    red, green, blue = pixels.split(1, 1)  # type: ignore[no-untyped-call]
    # Numbers, and no tensor of weights: making one on a GPU, batch by batch, would wait for it.
    result: Tensor = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
    return result


def _move(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Flip and shift in one gather. Reading at `rows`, `columns` outside the image gives black."""
    num, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(num, height)
    columns = torch.arange(width, device=images.device).expand(num, width)
    if config.flip:
        flipped = _draw(2, num, images, generator) == 1
        columns = torch.where(flipped, width - 1 - columns, columns)
    if config.crop:
        rows = rows + _draw(2 * config.crop + 1, num, images, generator) - config.crop
        columns = columns + _draw(2 * config.crop + 1, num, images, generator) - config.crop
    inside_rows, inside_columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    outside = (rows != inside_rows)[:, None, :, None] | (columns != inside_columns)[:, None, None, :]
    sample = torch.arange(num, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    moved = images[sample, channel, inside_rows[:, None, :, None], inside_columns[:, None, None, :]]
    return _like(moved.masked_fill_(outside, 0), images)


def _cut_out(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Blank a square of `side` pixels with its centre anywhere, clipped at the borders (DeVries & Taylor 2017)."""
    num, _, height, width = images.shape
    inside = []
    for extent in (height, width):
        start = _draw(extent, num, images, generator) - side // 2
        pixel = torch.arange(extent, device=images.device)
        inside.append((pixel >= start) & (pixel < start + side))
    return _like(images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0), images)


def _draw(below: int, num: int, images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a whole number in 0..below-1 for each image, (num, 1)."""
    return torch.randint(below, (num, 1), generator=generator, device=generator.device).to(images.device)


def _like(result: Tensor, images: Tensor) -> Tensor:
    """Return `result` in the memory format of `images`."""
    if images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
        return result.contiguous(memory_format=torch.channels_last)
    return result
