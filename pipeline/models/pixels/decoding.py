"""Encoded image bytes to RGB pixels, or the reason why not.

Pixels are those of Pillow after EXIF orientation and `convert("RGB")`. A training loader converts in the same way and turns nothing
by itself: open_clip's trains on the picture as it is stored (docs/recipes.md, "Turned pictures"). Converted, colours hidden under
full transparency show, palettes are looked up, 16 bits become 8 as Pillow does it, an animation gives its first frame.
Ordinary JPEGs (`jpeg`) are decoded by torchvision, whose pixels are the same (both use
libjpeg-turbo); everything else, and every doubt, goes to Pillow. A format is recognised by its first bytes, so a parser
that the recipe does not allow never runs. torch and torchvision take seconds to import, and are loaded with the first
JPEG that is decoded by them.
"""

import io
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import SampleFailure
from pipeline.models.pixels.formats import ends_early, recognised, too_complex
from pipeline.models.pixels.jpeg import ordinary
from schemas.reasons import ImageFault

Pixels = NDArray[np.uint8]

PILLOW_NAMES = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "avif": "AVIF"}
"""Formats that can be decoded, by our name."""

MAX_CARRIED_PIXELS = 4_194_304
"""Larger pictures are reduced by a whole factor, so that no picture carries more than 12 MiB of RGB."""

MAX_ASPECT = 1000
"""open_clip's transform makes a strip's shorter side 224 or so wide and then crops: of a longer strip that is gigabytes."""

# What Pillow raises on damaged data (a bomb's warning only where warnings are errors).
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, NotImplementedError,
    struct.error, zlib.error,
)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

PLAIN_MODES = ("RGB", "L")
"""Modes of Pillow in which resizing and converting to RGB may change places."""

EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}
"""What turns a picture of this EXIF orientation upright."""


@dataclass(frozen=True)
class Decoded:
    """A readable picture. `pixels` is uint8 [rows, columns, 3], C-contiguous, perhaps reduced; the size is the true one."""

    format: str
    width: int
    height: int
    pixels: Pixels
    plain: bool
    """open_clip, too, would resize these very pixels; otherwise `reopened` has what it would resize."""


def decode(data: bytes | memoryview, *, allowed_formats: Sequence[str], max_pixels: int, by_pillow: bool = False) -> Decoded:
    """The picture in `data`, contiguous bytes. Raises SampleFailure with a code of ImageFault.

    `by_pillow` gives the same pixels without loading torch, more slowly.

    The number of pixels is read from the header and held against `max_pixels` before anything is decoded, and the parts of the
    file are counted (`containers`). A picture that ends early fails; its missing part is never made up.
    """
    _raise_pillow_s_guard(max_pixels)
    format = recognised(data)
    if format not in allowed_formats or format not in PILLOW_NAMES:
        raise SampleFailure(ImageFault.FORMAT_NOT_ALLOWED)
    fast = format == "jpeg" and not by_pillow
    picture = _ordinary_jpeg(memoryview(data), max_pixels) if fast else None
    return _any(format, bytes(data), max_pixels, fast=fast) if picture is None else picture


def _raise_pillow_s_guard(max_pixels: int) -> None:
    """Pillow refuses above twice a number of its own, which no recipe may lift. It is raised, never lowered: where nobody asks for
    more, other users of Pillow in this process keep what they had."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _ordinary_jpeg(data: memoryview, max_pixels: int) -> Decoded | None:
    """An ordinary JPEG without the help of Pillow; None for every other, and where anything is wrong with it."""
    header = ordinary(data)
    if header is None or header.width * header.height > min(max_pixels, MAX_CARRIED_PIXELS):
        return None
    if not header.single_scan and too_complex("jpeg", bytes(data)):
        return None
    pixels = _by_torchvision(data, header.width, header.height)
    return None if pixels is None else Decoded("jpeg", header.width, header.height, pixels, plain=True)


def _any(format: str, data: bytes, max_pixels: int, *, fast: bool) -> Decoded:
    if too_complex(format, data):
        raise SampleFailure(ImageFault.TOO_COMPLEX)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[format]])
        width, height = image.size
        if width * height > max_pixels:
            raise SampleFailure(ImageFault.TOO_MANY_PIXELS)
        plain = _is_plain(image)
        pixels = _fast_jpeg(image, data) if fast else None
        if pixels is None:
            pixels, (width, height) = _by_pillow(image)
    except BOMB as error:
        raise SampleFailure(ImageFault.TOO_MANY_PIXELS) from error
    except DAMAGE as error:
        cut = "truncated" in str(error).lower() or ends_early(format, data)
        raise SampleFailure(ImageFault.TRUNCATED if cut else ImageFault.UNDECODABLE) from error
    return Decoded(format, width, height, pixels, plain)


def reopened(data: bytes) -> Image.Image | None:
    """The upright picture in its own mode and full size, where that is not what `decode` gives; None where it is.

    open_clip's transform resizes before it converts to RGB: a palette by nearest neighbour, transparent pixels by their
    weight, CMYK as CMYK. A model's input must be made from this picture to be open_clip's; but strips beyond MAX_ASPECT are
    embedded as they are carried. For data that `decode` accepted; raises nothing for them.
    """
    image: Image.Image = Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[recognised(data)]])
    if _is_plain(image) or max(image.size) > MAX_ASPECT * min(image.size):
        return None
    image.load()
    turn = UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def decode_as_stages_do(data: bytes, allowed_formats: Sequence[str], max_pixels: int) -> None:
    """Does with `data` everything that the stages let a decoder do, for nothing but to see that the process survives it."""
    try:
        decode(data, allowed_formats=allowed_formats, max_pixels=max_pixels)
    except SampleFailure:
        return
    reopened(data)


def _is_plain(image: Image.Image) -> bool:
    """Whether resizing this picture, not loaded yet, and converting it to RGB may change places, and it stays unreduced."""
    return image.mode in PLAIN_MODES and image.width * image.height <= MAX_CARRIED_PIXELS


def _fast_jpeg(image: Image.Image, data: bytes) -> Pixels | None:
    """Pixels of an upright 8-bit RGB or grey JPEG; None where Pillow must decide."""
    return _by_torchvision(data, *image.size) if _is_plain(image) and orientation(image) == 1 else None


def _by_torchvision(data: bytes | memoryview, width: int, height: int) -> Pixels | None:
    """RGB pixels of a JPEG that should have this size; None where they are not to be had. Files that end early are refused."""
    from pipeline.models.pixels.planes import jpeg_pixels

    pixels = jpeg_pixels(data)
    return pixels if pixels is not None and pixels.shape == (height, width, 3) else None


def _by_pillow(image: Image.Image) -> tuple[Pixels, tuple[int, int]]:
    """Pixels, and the size after EXIF orientation."""
    upright = upright_rgb(image)
    size = upright.size
    factor = reduction(*size)
    if factor > 1:
        upright = upright.reduce(factor)
    return np.array(upright), size


def upright_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB, EXIF orientation applied."""
    image.load()
    turn = UPRIGHT.get(orientation(image))
    upright = image.convert("RGB")
    return upright if turn is None else upright.transpose(turn)


def reduction(width: int, height: int) -> int:
    """The smallest whole factor that leaves at most MAX_CARRIED_PIXELS."""
    factor = max(1, math.isqrt(width * height // MAX_CARRIED_PIXELS))
    while math.ceil(width / factor) * math.ceil(height / factor) > MAX_CARRIED_PIXELS:
        factor += 1
    return factor


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; damaged EXIF data turns nothing."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except DAMAGE:
        return 1
    return value if value in UPRIGHT else 1
