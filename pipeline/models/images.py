"""Encoded image bytes to RGB pixels, or the reason why not.

Pixels are those of Pillow after EXIF orientation and `convert("RGB")`, which is also what a training loader sees:
colours hidden under full transparency show, palettes are looked up, 16 bits become 8 as Pillow does it, an animation
gives its first frame. Ordinary JPEGs are decoded by torchvision, whose pixels are the same (both use libjpeg-turbo);
everything else, and every doubt, goes to Pillow. A format is recognised by its first bytes, so a parser that the recipe
does not allow never runs.
"""

import io
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode

from pipeline.errors import SampleFailure
from schemas.reasons import ImageFault

Pixels = NDArray[np.uint8]

PILLOW_NAMES = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "avif": "AVIF"}
"""Formats that can be decoded, by our name."""

MAX_CARRIED_PIXELS = 4_194_304
"""Larger pictures are reduced by a whole factor, so that no picture carries more than 12 MiB of RGB."""

# What Pillow raises on damaged data (a bomb's warning only where warnings are errors).
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, NotImplementedError,
    struct.error, zlib.error,
)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# The operator itself: torchvision's function around it warns on every call that it will move to another package. Where it
# has moved, Pillow decodes everything.
DECODE_JPEG = getattr(torch.ops.image, "decode_jpeg", None)

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


def decode(data: bytes, *, allowed_formats: Sequence[str], max_pixels: int) -> Decoded:
    """The picture in `data`. Raises SampleFailure with a code of ImageFault.

    The number of pixels is read from the header and held against `max_pixels` (and Pillow's own guard, twice
    89,478,485) before anything is decoded. A picture that ends early fails; its missing part is never made up.
    """
    format = recognised(data)
    if format not in allowed_formats or format not in PILLOW_NAMES:
        raise SampleFailure(ImageFault.FORMAT_NOT_ALLOWED)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[format]])
        width, height = image.size
        if width * height > max_pixels:
            raise SampleFailure(ImageFault.TOO_MANY_PIXELS)
        plain = _is_plain(image)
        pixels = _fast_jpeg(image, data) if format == "jpeg" else None
        if pixels is None:
            pixels, (width, height) = _by_pillow(image)
    except BOMB as error:
        raise SampleFailure(ImageFault.TOO_MANY_PIXELS) from error
    except DAMAGE as error:
        cut = "truncated" in str(error).lower() or ends_early(format, data)
        raise SampleFailure(ImageFault.TRUNCATED if cut else ImageFault.UNDECODABLE) from error
    return Decoded(format, width, height, pixels, plain)


def recognised(data: bytes) -> str:
    """The format that the first bytes claim. Raises SampleFailure for nothing and for what is not an image."""
    if not data:
        raise SampleFailure(ImageFault.EMPTY)
    head = data[:16]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return {b"avif": "avif", b"avis": "avif"}.get(head[8:12], "isobmff")
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "bmp"
    for start, format in MAGIC:
        if head.startswith(start):
            return format
    if b"<svg" in data[:1024].lower():
        return "svg"
    raise SampleFailure(ImageFault.NOT_AN_IMAGE)


MAGIC = (
    (b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF87a", "gif"), (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"), (b"MM\x00*", "tiff"), (b"\x00\x00\x01\x00", "ico"), (b"8BPS", "psd"),
    (b"\xff\x0a", "jxl"), (b"\x00\x00\x00\x0cJXL ", "jxl"), (b"\x00\x00\x00\x0cjP  ", "jpeg2000"),
)


def ends_early(format: str, data: bytes) -> bool:
    """Whether the end that this format announces is missing."""
    if format == "jpeg":   # entropy-coded data escapes 0xff, so the last end-of-image belongs behind the last scan
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if format == "png":
        return b"IEND" not in data
    if format == "webp":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False


def reopened(data: bytes) -> Image.Image | None:
    """The upright picture in its own mode and full size, where that is not what `decode` gives; None where it is.

    open_clip's transform resizes before it converts to RGB: a palette by nearest neighbour, transparent pixels by their
    weight, CMYK as CMYK. A model's input must be made from this picture to be open_clip's. For data that `decode`
    accepted; raises nothing for them.
    """
    image: Image.Image = Image.open(io.BytesIO(data), formats=[PILLOW_NAMES[recognised(data)]])
    if _is_plain(image):
        return None
    image.load()
    turn = UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _is_plain(image: Image.Image) -> bool:
    """Whether resizing this picture, not loaded yet, and converting it to RGB may change places, and it stays unreduced."""
    return image.mode in PLAIN_MODES and image.width * image.height <= MAX_CARRIED_PIXELS


def _fast_jpeg(image: Image.Image, data: bytes) -> Pixels | None:
    """Pixels of an upright 8-bit RGB or grey JPEG; None where Pillow must decide. torchvision refuses files that end early."""
    if DECODE_JPEG is None or not _is_plain(image) or _orientation(image) != 1:
        return None
    try:
        decoded = DECODE_JPEG(torch.frombuffer(data, dtype=torch.uint8), ImageReadMode.RGB.value)
    except RuntimeError:
        return None
    pixels: Pixels = decoded.permute(1, 2, 0).contiguous().numpy()
    return pixels if pixels.shape == (image.height, image.width, 3) else None


def _by_pillow(image: Image.Image) -> tuple[Pixels, tuple[int, int]]:
    """Pixels, and the size after EXIF orientation."""
    image.load()
    turn = UPRIGHT.get(_orientation(image))
    upright = image.convert("RGB")
    if turn is not None:
        upright = upright.transpose(turn)
    size = upright.size
    factor = math.ceil(math.sqrt(size[0] * size[1] / MAX_CARRIED_PIXELS))
    if factor > 1:
        upright = upright.reduce(factor)
    return np.array(upright), size


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; damaged EXIF data turns nothing."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except DAMAGE:
        return 1
    return value if value in UPRIGHT else 1


def as_planes(pixels: Pixels) -> torch.Tensor:
    """uint8 [1, 3, rows, columns] over the same memory. The first stride is that of a true batch, which makes torch resize
    with the channels last; over a broadcast one it copies the picture into planes first, for the same values."""
    rows, columns, _ = pixels.shape
    return torch.from_numpy(pixels).as_strided((1, 3, rows, columns), (pixels.size, 1, 3 * columns, 3))


def squares(pictures: Sequence[Pixels], side: int) -> Pixels:
    """Each picture squashed to side x side (bicubic, antialiased): uint8 [n, side, side, 3]."""
    found = np.empty((len(pictures), side, side, 3), np.uint8)
    for square, pixels in zip(found, pictures, strict=True):
        resized = F.interpolate(as_planes(pixels), (side, side), mode="bicubic", antialias=True)
        square[:] = resized[0].permute(1, 2, 0).numpy()
    return found
