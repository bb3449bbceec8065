"""The batched transform against open_clip's own."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import Compose

from pipeline.models.pixels.decoding import reopened
from pipeline.models.preprocess import Preprocess
from tests.models.zoo import picture, zoo

MEAN, STD = (0.48, 0.45, 0.40), (0.26, 0.26, 0.27)
SIZES = [
    (320, 240), (240, 320), (97, 31), (31, 97), (96, 256), (500, 500), (64, 64), (63, 65), (3, 9), (1, 40), (40, 1), (1, 1),
    (700, 12), (9, 3000),
]
OTHER_MODES = ["jpeg cmyk", "png palette, transparent", "png 16 bit", "png 1 bit", "png grey, alpha", "png alpha", "webp alpha"]


def both(size: tuple[int, int], mode: str, interpolation: str, fill: int) -> tuple[Preprocess, Any]:
    ours = Preprocess(size, mode, interpolation, fill, MEAN, STD)
    steps = image_transform(size, is_train=False, resize_mode=mode, interpolation=interpolation, fill_color=fill).transforms
    return ours, Compose(steps[:-2])


# open_clip ignores the interpolation where `shortest` meets an oblong size.
CONFIGS = [
    (mode, size, interpolation)
    for mode in ("shortest", "longest", "squash") for size in ((64, 64), (48, 80)) for interpolation in ("bicubic", "bilinear")
    if (mode, size, interpolation) != ("shortest", (48, 80), "bilinear")
]


@pytest.mark.parametrize(("mode", "size", "interpolation"), CONFIGS)
def test_pixels_are_open_clips_up_to_rounding(mode: str, size: tuple[int, int], interpolation: str) -> None:
    ours, theirs = both(size, mode, interpolation, 255)
    for shape in SIZES:
        photo = picture(*shape)
        try:
            expected = np.asarray(theirs(photo), int)
        except ValueError:   # a strip that open_clip would make zero pixels wide
            assert ours([np.asarray(photo)]).shape == (1, 3, *size)
            continue
        found = ours([np.asarray(photo)])[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(found - expected).max() <= 2, shape


@pytest.mark.parametrize("shape", [(96, 256), (106, 256), (90, 400), (300, 260)])
def test_hard_edges_of_tall_pictures_are_resized_in_pillows_order(shape: tuple[int, int]) -> None:
    bars = np.random.default_rng(2).integers(0, 2, (shape[1], shape[0], 3), np.uint8) * np.uint8(255)
    for mode in ("longest", "shortest", "squash"):
        ours, theirs = both((64, 64), mode, "bicubic", 255)
        found = ours([bars])[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(found - np.asarray(theirs(Image.fromarray(bars)), int)).max() <= 1


def test_a_strip_is_not_blown_up_to_be_cropped() -> None:
    ours, theirs = both((64, 64), "shortest", "bicubic", 0)
    strip = picture(2, 5000)
    assert ours.target(5000, 2) == (160_000, 64)
    found = ours([np.asarray(strip)])[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - np.asarray(theirs(strip), int)).max() <= 2
    assert ours([np.zeros((1, 2_000_000, 3), np.uint8)]).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("name", OTHER_MODES)
def test_pictures_in_other_modes_are_open_clips_exactly(name: str) -> None:
    ours, theirs = both((64, 64), "longest", "bicubic", 255)
    picture = reopened(zoo()[name])
    assert picture is not None
    found = ours([picture])[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, np.asarray(theirs(Image.open(io.BytesIO(zoo()[name])))))


def test_normalised_pixels_are_open_clips_up_to_float_rounding() -> None:
    ours = Preprocess((64, 64), "squash", "bicubic", 0, MEAN, STD)
    theirs = image_transform((64, 64), is_train=False, mean=MEAN, std=STD, resize_mode="squash")
    photo = picture(64, 64)
    pixels = ours([np.asarray(photo)])
    assert float((ours.normalised(pixels, torch.float32)[0] - theirs(photo)).abs().max()) < 1e-5


def test_no_pictures_give_an_empty_batch() -> None:
    assert Preprocess((64, 32), "squash", "bicubic", 0, MEAN, STD)([]).shape == (0, 3, 64, 32)
