from __future__ import annotations

import pytest
import torch

from nasflow_cli.core.data_config import AugmentConfig
from nasflow_cli.train.augment import augment, mix

GREY = AugmentConfig(flip=True, crop=2, cutout=3)
EVERYTHING = AugmentConfig(flip=True, crop=2, cutout=3, colour=0.25)


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
    "config",
    [EVERYTHING, AugmentConfig(colour=0.5), AugmentConfig(flip=True), AugmentConfig(crop=2), AugmentConfig(cutout=3)],
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
    assert augment(numbered(1, 1), GREY, seeded()).shape == (1, 1, 6, 7)


def test_colours_change_by_three_factors_of_each_image_within_the_bounds():
    images = 60 + 40 * torch.rand((300, 3, 8, 8), generator=seeded(5))  # far from 0 and 255: nothing is clipped
    changed = augment(images, AugmentConfig(colour=0.3), seeded())

    def grey(pixels: torch.Tensor) -> torch.Tensor:
        return 0.299 * pixels[:, 0] + 0.587 * pixels[:, 1] + 0.114 * pixels[:, 2]

    def ratio(measure) -> torch.Tensor:
        return measure(changed) / measure(images)

    brightness = ratio(lambda pixels: grey(pixels).mean((1, 2)))
    contrast = ratio(lambda pixels: grey(pixels).std((1, 2))) / brightness
    saturation = ratio(lambda pixels: (pixels[:, 0] - pixels[:, 1]).std((1, 2))) / brightness / contrast
    factors = torch.stack([brightness, contrast, saturation])
    assert bool(((factors > 0.7 - 1e-3) & (factors < 1.3 + 1e-3)).all())
    assert bool((factors.amin(1) < 0.75).all())
    assert bool((factors.amax(1) > 1.25).all())
    assert float(torch.corrcoef(factors).triu(1).abs().max()) < 0.2  # each is drawn by itself


def test_colours_stay_within_those_of_a_pixel_and_black_is_added_after_them():
    images = torch.randint(0, 256, (64, 3, 8, 8), generator=seeded(1), dtype=torch.uint8).clamp_(min=1)
    changed = augment(images, AugmentConfig(colour=0.9, cutout=4), seeded())

    assert changed.dtype is torch.uint8
    assert bool((changed.float() - images.float()).abs().amax((1, 2, 3)).gt(0).all())
    assert bool((changed == 0).all(1).flatten(1).sum(1).ge(4).all())


def test_mixed_images_are_blends_of_two_of_the_batch_with_both_labels():
    labels = torch.arange(12)
    share = torch.linspace(0, 1, 12)
    images = labels.view(12, 1, 1, 1).expand(12, 1, 2, 2).to(torch.uint8).contiguous()

    mixed = mix(images, labels, share, seeded())

    assert sorted(mixed.others.tolist()) == labels.tolist()
    assert mixed.others.tolist() != labels.tolist()
    expected = share * labels + (1 - share) * mixed.others
    assert torch.allclose(mixed.images, expected.view(12, 1, 1, 1).expand(12, 1, 2, 2))
    assert torch.equal(mixed.share, share)
