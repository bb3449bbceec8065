"""Decoding: the pixels are Pillow's, every unreadable picture has its reason, and nothing is made up."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import SampleFailure
from pipeline.models.pixels.decoding import MAX_CARRIED_PIXELS, decode, reopened
from pipeline.models.pixels.planes import squares
from schemas.reasons import ImageFault
from tests.models.bundled import ground_truth, opened, readable, sample
from tests.models.zoo import ORIENTED, encoded, oriented, picture, turned, zoo

ALL = ("jpeg", "png", "webp")


def reason(data: bytes, allowed: tuple[str, ...] = ALL, max_pixels: int = 10**8) -> str:
    with pytest.raises(SampleFailure) as failure:
        decode(data, allowed_formats=allowed, max_pixels=max_pixels)
    return failure.value.code


@pytest.mark.parametrize("name", sorted(zoo()))
def test_pixels_are_those_of_pillow_for_every_format_and_orientation(name: str) -> None:
    found, expected = decode(zoo()[name], allowed_formats=ALL, max_pixels=10**8), opened(zoo()[name])
    assert (found.format, found.width, found.height) == (str(Image.open(io.BytesIO(zoo()[name])).format).lower(), *expected.size)
    rgb = expected.convert("RGB")
    np.testing.assert_array_equal(found.pixels, np.asarray(rgb.reduce(2) if "megapixels" in name else rgb))
    assert found.pixels.flags.c_contiguous


def test_the_fast_jpeg_decoder_gives_the_same_pixels_as_pillow_on_the_whole_sample() -> None:
    for key, (data, _) in readable().items():
        np.testing.assert_array_equal(
            decode(data, allowed_formats=ALL, max_pixels=10**8).pixels, np.asarray(opened(data).convert("RGB")), err_msg=key
        )


def test_every_corrupt_picture_of_the_sample_has_its_own_reason() -> None:
    expected = {
        "truncated": ImageFault.TRUNCATED, "zero_bytes": ImageFault.EMPTY, "wrong_magic": ImageFault.NOT_AN_IMAGE,
        "html_error_page": ImageFault.NOT_AN_IMAGE,
    }
    corrupt = {key: entry["corruption"] for key, entry in ground_truth().items() if entry["label"] == "corrupt"}
    assert len(corrupt) == 5
    assert {key: reason(sample()[key][0]) for key in corrupt} == {key: expected[kind] for key, kind in corrupt.items()}


@pytest.mark.parametrize(
    "name", ["jpeg", "jpeg grey", "jpeg progressive", "jpeg cmyk", "png", "png palette", "webp", "webp lossless"]
)
def test_a_picture_that_ends_early_fails_and_is_never_padded(name: str) -> None:
    data = zoo()[name]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
        assert reason(data[:int(len(data) * share)]) == ImageFault.TRUNCATED


def test_damaged_bytes_give_pixels_or_a_reason_and_no_other_error() -> None:
    rng = np.random.default_rng(7)
    reasons = set()
    for name in ("jpeg", "jpeg progressive", "png", "png palette, transparent", "png 16 bit", "webp", "webp animated"):
        for _ in range(40):
            data = bytearray(zoo()[name])
            for position in rng.integers(0, len(data) if rng.random() < 0.5 else 200, rng.integers(1, 6)):
                data[position] = rng.integers(0, 256)
            try:
                assert decode(bytes(data), allowed_formats=ALL, max_pixels=10**6).pixels.dtype == np.uint8
                reopened(bytes(data))
            except SampleFailure as failure:
                reasons.add(failure.code)
    assert reasons <= set(ImageFault)
    assert ImageFault.UNDECODABLE in reasons


def test_what_is_no_picture_and_what_is_not_allowed_are_told_apart() -> None:
    assert reason(b"") == ImageFault.EMPTY
    assert reason(b"<!DOCTYPE html><html></html>") == ImageFault.NOT_AN_IMAGE
    assert reason(bytes(1000)) == ImageFault.NOT_AN_IMAGE
    assert reason(b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>') == ImageFault.FORMAT_NOT_ALLOWED
    gif = encoded(picture(20, 20).quantize(16), "GIF")
    assert reason(gif) == ImageFault.FORMAT_NOT_ALLOWED
    assert decode(gif, allowed_formats=("gif",), max_pixels=400).width == 20
    assert reason(zoo()["webp"], allowed=("jpeg", "png")) == ImageFault.FORMAT_NOT_ALLOWED


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG that promises these many pixels and has none."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_too_many_pixels_fail_by_the_header_before_anything_is_decoded() -> None:
    assert reason(zoo()["jpeg"], max_pixels=320 * 240 - 1) == ImageFault.TOO_MANY_PIXELS
    assert decode(zoo()["jpeg"], allowed_formats=ALL, max_pixels=320 * 240).width == 320
    for action in ("ignore", "error"):
        with warnings.catch_warnings():
            warnings.simplefilter(action, Image.DecompressionBombWarning)
            assert reason(png_bomb(12_000, 9_000)) == ImageFault.TOO_MANY_PIXELS
    assert reason(png_bomb(60_000, 60_000), max_pixels=60_000**2 - 1) == ImageFault.TOO_MANY_PIXELS


def test_more_pixels_than_pillow_allows_by_itself_are_decoded_where_the_recipe_allows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)   # it warns above, and refuses above twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("jpeg", "webp", "png"):
            data = encoded(picture(320, 240), name.upper())
            found = decode(data, allowed_formats=ALL, max_pixels=320 * 240, by_pillow=True)
            assert (found.width, found.height) == (320, 240)
            assert reason(data, max_pixels=320 * 240 - 1) == ImageFault.TOO_MANY_PIXELS
    assert Image.MAX_IMAGE_PIXELS == 320 * 240
    decode(encoded(picture(8, 8), "PNG"), allowed_formats=ALL, max_pixels=100)
    assert Image.MAX_IMAGE_PIXELS == 320 * 240, "never lowered"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    decode(encoded(picture(8, 8), "PNG"), allowed_formats=ALL, max_pixels=100)
    assert Image.MAX_IMAGE_PIXELS is None


def test_a_huge_picture_keeps_its_true_size_and_carries_few_pixels() -> None:
    found = decode(zoo()["jpeg 12 megapixels"], allowed_formats=ALL, max_pixels=10**8)
    assert (found.width, found.height) == (4000, 3000)
    assert found.pixels.shape == (1500, 2000, 3)
    turned = decode(encoded(picture(3000, 2000), "JPEG", exif=oriented(6)), allowed_formats=ALL, max_pixels=10**8)
    assert (turned.width, turned.height) == (2000, 3000)
    assert turned.pixels.shape[0] * turned.pixels.shape[1] <= MAX_CARRIED_PIXELS


def test_only_pictures_that_open_clip_sees_otherwise_are_opened_again() -> None:
    again = {name for name in zoo() if "orientation" not in name and reopened(zoo()[name]) is not None}
    assert again == {
        "jpeg cmyk", "jpeg 12 megapixels", "png palette", "png palette, transparent", "png palette, many alphas", "png 16 bit",
        "png 1 bit", "png grey, alpha", "png alpha", "webp alpha", "webp animated",
    }


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ORIENTED)
def test_a_picture_that_is_opened_again_is_turned_as_pillow_turns_it(name: str, orientation: int) -> None:
    data = turned(name, orientation)
    found, expected = reopened(data), opened(data)
    assert found is not None
    assert (found.mode, found.size, found.getpalette()) == (expected.mode, expected.size, expected.getpalette())
    assert found.info.get("transparency") == expected.info.get("transparency")
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(found.convert("RGBA")), np.asarray(expected.convert("RGBA")))
    carried = decode(data, allowed_formats=ALL, max_pixels=10**8)
    assert (carried.width, carried.height, carried.plain) == (*expected.size, False)
    assert (carried.width < carried.height) == (orientation > 4)


def test_squares_are_close_to_pillows_resize() -> None:
    photo = picture(320, 240)
    found = squares([np.asarray(photo)], 32)[0].astype(int)
    assert np.abs(found - np.asarray(photo.resize((32, 32), Image.Resampling.BICUBIC), int)).max() <= 1
