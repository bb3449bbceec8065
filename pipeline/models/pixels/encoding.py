"""Pictures encoded anew, for trainers that cannot read their format. Pillow comes with the first one, for recipes look here too."""

import io

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


def is_transcoded(format: str, transcode: str) -> bool:
    """Whether a picture of this format, as found in its bytes, is encoded anew. `transcode`: as in the recipe."""
    return transcode != NONE and format not in TRAINERS_FORMATS


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
