"""Pictures encoded anew, for trainers that cannot read their format. Pillow comes with the first one, for recipes look here too."""

import io
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import SampleFailure
from pipeline.models.pixels.formats import TRAINERS_FORMATS, recognised
from schemas.reasons import ImageFault

NONE, PNG, JPEG = "none", "png", "jpeg"
SUFFIXES = {JPEG: "jpg"}
"""Extensions of formats that are not called like their format."""


def checked_transcode(value: str) -> str:
    """The value of `export.transcode`, if it is one. Raises ValueError, which says what would do."""
    format, _, quality = value.partition(" ")
    fits = quality.isascii() and quality.isdecimal() and 1 <= int(quality) <= 100 if format == JPEG else not quality
    if format not in (NONE, PNG, JPEG) or not fits:
        raise ValueError(f"{value!r} is no way to write pictures: give {NONE}, {PNG}, or {JPEG} and a quality, 1-100: {JPEG} 95")
    return value


TURNED = {"jpeg": f"{JPEG} 95", "png": PNG, "webp": "webp 95"}
"""How a turned picture of each format is written upright where the recipe does not say how."""


@dataclass(frozen=True)
class PictureRule:
    """Which pictures are encoded anew, as the recipe has it."""

    transcode: str = NONE
    """`export.transcode`"""
    orient: Literal["keep", "upright"] = "keep"
    """`export.orient`"""

    def encoding(self, format: str, data: bytes) -> str:
        """How the picture in `data` is written, as `transcoded` takes it; NONE where its bytes stay. `format`: as found in them."""
        if format not in TRAINERS_FORMATS:
            return self.transcode
        if self.orient == "upright" and is_turned(format, data):
            return TURNED[format] if self.transcode == NONE else self.transcode
        return NONE


AS_STORED = PictureRule()


def is_turned(format: str, data: bytes) -> bool:
    """Whether the picture's EXIF data says that it is to be turned to be upright. For data that `decode` accepted."""
    from PIL import Image

    from pipeline.models.pixels.decoding import DAMAGE, PILLOW_NAMES, orientation

    try:
        return orientation(Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[format]])) != 1
    except DAMAGE as error:
        raise SampleFailure(ImageFault.UNDECODABLE) from error


def transcoded(data: bytes, transcode: str) -> tuple[str, bytes]:
    """Extension and bytes of the picture in `data`, encoded as the recipe says: the upright RGB pixels that the stages saw, in full
    size, of an animation those of its first frame, and nothing else of the file. The same bytes, by the same Pillow, give the same
    bytes. For data that `decode` accepted; raises SampleFailure for others."""
    from PIL import Image

    from pipeline.models.pixels.decoding import DAMAGE, PILLOW_NAMES, upright_rgb

    target, _, quality = transcode.partition(" ")
    buffer = io.BytesIO()
    try:
        pixels = upright_rgb(Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[recognised(data)]]))
        bare = Image.frombytes("RGB", pixels.size, pixels.tobytes())   # without the profiles and remarks of the file
        bare.save(buffer, target, **({"quality": int(quality)} if quality else {}))
    except DAMAGE as error:
        raise SampleFailure(ImageFault.UNDECODABLE) from error
    return SUFFIXES.get(target, target), buffer.getvalue()
