"""What a picture claims to be, by its header alone: nothing is decoded."""

import io
from collections.abc import Sequence

from PIL import Image

from pipeline.errors import SampleFailure
from pipeline.models.pixels.decoding import BOMB, DAMAGE, PILLOW_NAMES, decode
from pipeline.models.pixels.formats import recognised, too_complex
from schemas.reasons import ImageFault


def refuse_large(data: bytes, allowed_formats: Sequence[str], max_pixels: int) -> None:
    """Raises SampleFailure, with a code of ImageFault, for a picture of another format, of more pixels than that by its header, or
    of too many parts."""
    format = recognised(data)
    if format not in allowed_formats or format not in PILLOW_NAMES:
        raise SampleFailure(ImageFault.FORMAT_NOT_ALLOWED)
    if too_complex(format, data):
        raise SampleFailure(ImageFault.TOO_COMPLEX)
    try:
        width, height = Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[format]]).size
    except BOMB:
        raise SampleFailure(ImageFault.TOO_MANY_PIXELS) from None
    except DAMAGE:
        raise SampleFailure(ImageFault.UNDECODABLE) from None
    if width * height > max_pixels:
        raise SampleFailure(ImageFault.TOO_MANY_PIXELS)


def decode_by_pillow(data: bytes, allowed_formats: Sequence[str], max_pixels: int) -> None:
    """Decodes `data` for nothing but to see that the process survives it, without torch: a guarded child stays small."""
    try:
        decode(data, allowed_formats=allowed_formats, max_pixels=max_pixels, by_pillow=True)
    except SampleFailure:
        return
