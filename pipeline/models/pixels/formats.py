"""What a picture file is, by its bytes alone: its format, whether its end is there, and whether it is a bomb.

No decoder runs here. The first bytes are the format; a file's name never is. Bombs are files whose cost lies in what they
are made of, not in their number of pixels: a progressive JPEG of 16 KB can have a thousand scans, each of which passes
over every pixel; millions of empty segments or chunks take a parser microseconds and a Python object each.
"""

import re

from pipeline.errors import SampleFailure
from schemas.reasons import ImageFault

MAGIC = (
    (b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF87a", "gif"), (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"), (b"MM\x00*", "tiff"), (b"\x00\x00\x01\x00", "ico"), (b"8BPS", "psd"),
    (b"\xff\x0a", "jxl"), (b"\x00\x00\x00\x0cJXL ", "jxl"), (b"\x00\x00\x00\x0cjP  ", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"), (b"II+\x00", "bigtiff"), (b"MM\x00+", "bigtiff"), (b"icns", "icns"), (b"DDS ", "dds"),
    (b"\x00\x00\x02\x00", "cur"), (b"%!PS", "eps"), (b"\xc5\xd0\xd3\xc6", "eps"), (b"%PDF", "pdf"), (b"SIMPLE  =", "fits"),
)
"""Formats that nothing decodes are told apart from what is no picture at all."""

TRAINERS_FORMATS = ("jpeg", "png", "webp")
"""What open_clip's loader looks for."""
DECODABLE = (*TRAINERS_FORMATS, "gif", "bmp", "tiff", "avif")
"""What a recipe may allow."""

MAX_SCANS = 100
"""Scans of a JPEG: encoders write at most some 20. A hundred over 81 megapixels decode in three seconds."""

MAX_PARTS = 100_000
"""Segments of a JPEG before its pixels (or stray bytes between them), chunks of a PNG or WebP: 0.2 seconds. A PNG of 128 MiB
in libpng's chunks of 8 KiB has 16,384."""

START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WITHOUT_LENGTH = frozenset([0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)])
"""JPEG markers behind which Pillow and libjpeg read on at once."""
MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])")
"""The next marker behind the first scan that is more than a restart; pixel data escape 0xff by a zero."""


def recognised(data: bytes | memoryview) -> str:
    """The format that the first bytes claim. Raises SampleFailure for nothing and for what is not an image."""
    if not data:
        raise SampleFailure(ImageFault.EMPTY)
    head = bytes(data[:16])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return {b"avif": "avif", b"avis": "avif"}.get(head[8:12], "isobmff")
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "bmp"
    for start, format in MAGIC:
        if head.startswith(start):
            return format
    if b"<svg" in bytes(data[:1024]).lower():
        return "svg"
    if head[:1] == b"\x0a" and head[1:2] in (b"\0", b"\2", b"\3", b"\5") and head[2:3] == b"\1":
        return "pcx"
    raise SampleFailure(ImageFault.NOT_AN_IMAGE)


def ends_early(format: str, data: bytes) -> bool:
    """Whether the end that this format announces is missing."""
    if format == "jpeg":   # entropy-coded data escapes 0xff, so the last end-of-image belongs behind the last scan
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if format == "png":
        return b"IEND" not in data
    if format == "webp":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False


def too_complex(format: str, data: bytes) -> bool:
    """Whether decoding costs far more than the picture's pixels. False for the formats that are not looked into."""
    look = {"jpeg": _jpeg, "png": _png, "webp": _webp}.get(format)
    return look is not None and look(data)


def _jpeg(data: bytes) -> bool:
    position, parts = 2, 0
    while parts <= MAX_PARTS:
        marker_at = data.find(b"\xff", position)
        if not 0 <= marker_at < len(data) - 3:
            return parts + len(data) - position > MAX_PARTS
        marker = data[marker_at + 1]
        parts += 1 + marker_at - position
        if marker == START_OF_SCAN:
            return data.count(b"\xff\xda", marker_at) > MAX_SCANS and _scans(data, marker_at) > MAX_SCANS
        position = marker_at + (1 if marker == 0xFF else 2)
        if marker not in (0x00, 0xFF) and marker not in WITHOUT_LENGTH:
            position += max(2, int.from_bytes(data[marker_at + 2:marker_at + 4], "big"))
    return True


def _scans(data: bytes, position: int) -> int:
    """Scans of the picture whose first scan is at `position`: no picture behind it counts, nor one inside a segment. Data of
    very many segments count as too many."""
    scans = 0
    for _ in range(MAX_PARTS):
        marker = MARKER.search(data, position)
        if marker is None or data[marker.start() + 1] == END_OF_IMAGE or scans > MAX_SCANS:
            return scans
        scans += data[marker.start() + 1] == START_OF_SCAN
        position = marker.end() + max(2, int.from_bytes(data[marker.end():marker.end() + 2], "big"))
    return MAX_SCANS + 1


def _png(data: bytes) -> bool:
    position = 8
    for _ in range(MAX_PARTS):
        name = data[position + 4:position + 8]
        if len(name) < 4 or name == b"IEND":   # what is appended to a picture is not looked at
            return False
        position += 12 + int.from_bytes(data[position:position + 4], "big")
    return True


def _webp(data: bytes) -> bool:
    position, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(MAX_PARTS):
        if position + 8 > end:
            return False
        length = int.from_bytes(data[position + 4:position + 8], "little")
        position += 8 + length + length % 2
    return True
