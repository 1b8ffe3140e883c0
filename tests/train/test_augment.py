from __future__ import annotations

import pytest
import torch

from nasflow_cli.core.config import AugmentConfig
from nasflow_cli.train.augment import augment

EVERYTHING = AugmentConfig(flip=True, crop=2, cutout=3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(num: int = 16, channels: int = 3, height: int = 6, width: int = 7) -> torch.Tensor:
    """Images whose pixels all differ and none of which is black."""
    one = torch.arange(1, channels * height * width + 1, dtype=torch.float32)
    return one.view(1, channels, height, width).repeat(num, 1, 1, 1)


def test_with_nothing_on_the_same_tensor_comes_back():
    images = numbered()
    assert augment(images, AugmentConfig(), seeded()) is images


def test_a_flip_gives_the_image_or_its_mirror_image_and_both_occur():
    images = numbered(64)
    changed = augment(images, AugmentConfig(flip=True), seeded())
    same = (changed == images).flatten(1).all(1)
    mirrored = (changed == images.flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


def test_a_crop_is_a_window_on_the_padded_image_and_every_shift_occurs():
    images = numbered(400)
    changed = augment(images, AugmentConfig(crop=1), seeded())
    padded = torch.nn.functional.pad(images[0], (1, 1, 1, 1))
    windows = {(y, x): padded[:, y : y + 6, x : x + 7] for y in range(3) for x in range(3)}
    seen = {shift for image in changed for shift, window in windows.items() if torch.equal(image, window)}
    assert seen == set(windows)
    assert all(any(torch.equal(image, window) for window in windows.values()) for image in changed)


def test_a_cutout_blanks_a_square_clipped_at_the_border_in_all_channels():
    images = numbered(300)
    blank = augment(images, AugmentConfig(cutout=3), seeded()) == 0
    assert torch.equal(blank[:, 0], blank[:, 2])
    tall, wide = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(blank[:, 0].flatten(1).sum(1), tall * wide)  # a filled rectangle
    assert {tuple(side) for side in torch.stack([tall, wide], 1).tolist()} == {(2, 2), (2, 3), (3, 2), (3, 3)}
    assert bool(blank[:, 0].any(0).all())  # each pixel is blanked in some image


def test_what_is_not_blanked_by_a_cutout_is_as_it_was():
    images = numbered()
    changed = augment(images, AugmentConfig(cutout=2), seeded())
    assert torch.equal(changed[changed != 0], images[changed != 0])


@pytest.mark.parametrize(
    "config", [EVERYTHING, AugmentConfig(flip=True), AugmentConfig(crop=2), AugmentConfig(cutout=3)]
)
def test_the_input_is_not_changed(config):
    images = numbered()
    before = images.clone()
    augment(images, config, seeded())
    assert torch.equal(images, before)


def test_a_seed_decides_all():
    images = numbered()
    first, again, other = (augment(images, EVERYTHING, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_the_number_type_is_kept(dtype):
    assert augment(numbered().to(dtype), EVERYTHING, seeded()).dtype is dtype


def test_channels_last_images_stay_so_and_change_alike():
    images = numbered()
    changed = augment(images.contiguous(memory_format=torch.channels_last), EVERYTHING, seeded())
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(changed, augment(images, EVERYTHING, seeded()))


def test_contiguous_images_stay_so():
    assert augment(numbered(), EVERYTHING, seeded()).is_contiguous()


def test_grey_images_and_a_batch_of_one_are_augmented():
    assert augment(numbered(1, 1), EVERYTHING, seeded()).shape == (1, 1, 6, 7)
