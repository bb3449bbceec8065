"""The header of an ordinary JPEG: what Pillow would find in it, at a fraction of the time, or nothing.

Ordinary is what encoders write: the segments that are named here, one behind the other, each of the length that its kind
must have. EXIF and XMP (which may turn a picture), several pictures in one file, sixteen bits, CMYK, stray bytes and all
that Pillow could take amiss are not ordinary; for those Pillow is asked.
"""

from collections.abc import Callable, Mapping
from struct import unpack_from
from typing import NamedTuple

MAX_SEGMENTS = 64
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), 0xC2
START_OF_SCAN = 0xDA
MARKERS = 0xFF00


class JpegHeader(NamedTuple):
    """An upright picture of 8 bits per value that Pillow opens as RGB or grey."""

    width: int
    height: int
    single_scan: bool
    """The first scan has every component of a sequential picture, and libjpeg decodes no second one."""


def ordinary(data: memoryview) -> JpegHeader | None:
    """The header of a file that begins like a JPEG; None where it is not ordinary. No byte behind it is looked at."""
    frame, position, end = None, 2, len(data)
    for _ in range(MAX_SEGMENTS):
        if position + 4 > end:
            return None
        marker, length = unpack_from(">HH", data, position)
        kind, start, position = marker - MARKERS, position + 4, position + 2 + length
        if position > end or length < 2:
            return None
        if kind == START_OF_SCAN:
            return None if frame is None else _header(*frame, data[start:position])
        if kind in SEQUENTIAL or kind == PROGRESSIVE:
            if frame is not None:
                return None
            frame = kind, data[start:position]
        elif kind not in HARMLESS or not HARMLESS[kind](data[start:position]):
            return None
    return None


def _header(kind: int, frame: memoryview, scan: memoryview) -> JpegHeader | None:
    if len(frame) < 6 or not scan:
        return None
    bits, height, width, components = unpack_from(">BHHB", frame)
    if bits != 8 or not width or not height or components not in (1, 3) or len(frame) != 6 + 3 * components:
        return None
    return JpegHeader(width, height, kind != PROGRESSIVE and scan[0] == components)


def _tables(content: memoryview) -> bool:
    """Quantisation tables of 8 bits."""
    return len(content) % 65 == 0 and all(first < 16 for first in content[::65])


def _begins(prefix: bytes, minimum: int) -> Callable[[memoryview], bool]:
    return lambda content: len(content) >= minimum and content[:len(prefix)] == prefix


HARMLESS: Mapping[int, Callable[[memoryview], bool]] = {
    0xC4: bool,   # Huffman tables
    0xDB: _tables,
    0xDD: bool,   # restart interval
    0xE0: _begins(b"JFIF\0", 14),
    0xE2: _begins(b"ICC_PROFILE\0", 14),
    0xEE: _begins(b"Adobe", 12),
    0xFE: lambda content: True,   # comment
}
"""Segments that say nothing of size, mode and orientation, and what their content must be."""
