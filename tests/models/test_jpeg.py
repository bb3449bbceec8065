"""The header of an ordinary JPEG: what Pillow finds in it, and nothing where there is more to find."""

import io
import random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import SampleFailure
from pipeline.models.pixels import decoding as images
from pipeline.models.pixels.decoding import decode
from pipeline.models.pixels.jpeg import MAX_SEGMENTS, JpegHeader, ordinary
from tests.models.hostile import refused, survivable
from tests.models.zoo import encoded, oriented, picture, zoo

PHOTO = picture(70, 50)
WRITTEN: dict[str, dict[str, Any]] = {
    "plain": {}, "optimised": {"optimize": True}, "progressive": {"progressive": True}, "4:4:4": {"subsampling": 0},
    "comment": {"comment": b"by hand"}, "profile": {"icc_profile": bytes(200_000)}, "restarts": {"restart_marker_rows": 1},
    "coarse": {"quality": 1}, "resolution": {"dpi": (300, 300)},
}


def found(data: bytearray | bytes) -> JpegHeader | None:
    return ordinary(memoryview(data))


def behind_start(kind: int, content: bytes) -> bytes:
    """The photograph with one more segment before all others."""
    data = encoded(PHOTO, "JPEG")
    return data[:2] + b"\xff" + bytes([kind]) + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


def outcome(data: bytes) -> str | tuple[str, int, int, bool, bytes]:
    try:
        picture = decode(data, allowed_formats=("jpeg", "png", "webp"), max_pixels=10**6)
    except SampleFailure as failure:
        return failure.code
    return picture.format, picture.width, picture.height, picture.plain, picture.pixels.tobytes()


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_encoders_write_is_ordinary(name: str, mode: str) -> None:
    data = encoded(PHOTO.convert(mode), "JPEG", **WRITTEN[name])
    assert found(data) == (70, 50, name != "progressive")
    with patch.object(Image, "open", side_effect=AssertionError("Pillow was asked")):
        picture = decode(data, allowed_formats=("jpeg",), max_pixels=70 * 50)
    np.testing.assert_array_equal(picture.pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert picture.plain


def test_what_may_turn_a_picture_or_offend_pillow_is_not_ordinary() -> None:
    assert found(encoded(PHOTO, "JPEG", exif=oriented(6))) is None
    assert found(zoo()["jpeg cmyk"]) is None
    for kind, content in (
        (0xE0, b"JFIF\0"), (0xE0, b"JFXX\0" + bytes(20)), (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xE2, b"MPF\0" + bytes(80)),
        (0xE2, b"ICC_PROFILE\0"), (0xED, b"Photoshop 3.0\0"), (0xEE, b"Adobe\0"), (0xDB, b"\x10" + bytes(64)), (0xDB, bytes(64)),
        (0xC0, bytes(15)), (0xC9, bytes(15)), (0xDA, b"\3"), (0xDC, bytes(2)), (0xC4, b""),
    ):
        assert found(behind_start(kind, content)) is None, (kind, content)
    assert found(behind_start(0xFE, b"")) is not None
    assert found(encoded(PHOTO, "JPEG")[:2] + b"\0" + encoded(PHOTO, "JPEG")[2:]) is None
    many = behind_start(0xFE, b"\xff\xfe\0\2" * MAX_SEGMENTS)
    assert found(many[:2] + many[6:]) is None


def test_no_end_of_the_file_is_passed() -> None:
    data = encoded(PHOTO, "JPEG", comment=b"by hand")
    for cut in range(3, data.index(b"\xff\xda") + 14):
        assert found(data[:cut]) is None
    assert found(data[:data.index(b"\xff\xda") + 14]) is not None


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_every_picture_is_decoded_or_refused_as_without_this_header(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    strange = [*zoo().values(), *(data for data, _ in refused().values()), *survivable().values()]
    for options in WRITTEN.values():
        whole = encoded(PHOTO, "JPEG", **options)
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                end = len(data) if rng.random() < 0.2 else 700
                data[rng.randrange(2, end)] = rng.choice([0, 255, 218, rng.randrange(256)])
            strange.append(bytes(data))
    here = [outcome(data) for data in strange]
    monkeypatch.setattr(images, "ordinary", lambda data: None)
    assert here == [outcome(data) for data in strange]
    assert sum(found(data) is not None for data in strange) > 100
