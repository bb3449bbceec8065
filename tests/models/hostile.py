"""Pictures made to do harm, by real encoders where those make them, by hand where they don't."""

import io
import struct
import tarfile
import zipfile
import zlib
from functools import lru_cache

import numpy as np
from PIL import Image

from tests.models.zoo import alpha, encoded, picture

PNG = b"\x89PNG\r\n\x1a\n"
PHOTO = picture(120, 90)
SMALL = encoded(PHOTO, "JPEG")


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def png(width: int, height: int, *, colour: int = 0, packed: bytes | None = None) -> bytes:
    """A PNG of zeros, with other compressed data where they are given."""
    lines = bytes(height * (1 + width * {0: 1, 2: 3, 6: 4}[colour])) if packed is None else b""
    return PNG + header(width, height, colour=colour) + chunk(b"IDAT", packed or zlib.compress(lines, 9)) + chunk(b"IEND")


def with_chunks(*chunks: bytes) -> bytes:
    """A small PNG with these chunks before its pixels."""
    data = encoded(PHOTO, "PNG")
    return b"".join([data[:33], *chunks, data[33:]])


def with_segments(segments: bytes, data: bytes = SMALL) -> bytes:
    return data[:2] + segments + data[2:]


def segment(marker: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def scans(count: int, side: int = 64) -> bytes:
    """A progressive JPEG with about so many scans: the last one, over and over."""
    data = encoded(picture(side, side).convert("L"), "JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xda"):-2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + b"\xff\xd9"


def webp(width: int, height: int, frames: int = 1, between: bytes = b"") -> bytes:
    """An animation of tiny frames on a canvas of this size."""
    frame = bytes(6) + b"\1\0\0" * 2 + b"\12\0\0\0" + encoded(Image.new("RGB", (2, 2)), "WEBP", lossless=True)[12:]
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"".join([riff(b"VP8X", b"\2\0\0\0" + sides), riff(b"ANIM", bytes(6)), between, riff(b"ANMF", frame) * frames])
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def riff(name: bytes, content: bytes = b"") -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, height),
               (279, 4, 100)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4)


def gif(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("P", (2, 2)), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    place = data.rindex(b"\x2c")
    data[place + 5:place + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def overlapping_exif() -> bytes:
    """5,000 entries that each claim the same 60,000 bytes: 300 MB from 65 KB."""
    entries = b"".join(struct.pack("<HHII", 0x8000 + tag, 7, 60_000, 8) for tag in range(5000))
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries + bytes(4)
    return with_segments(segment(0xE1, block.ljust(65_000, b"\0")), SMALL.replace(b"JFIF\0", b"none\0", 1))


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as stored:
            for name in range(150):
                stored.writestr(f"{name}.jpg", SMALL)
    else:
        with tarfile.open(fileobj=file, mode="w") as stored:
            entry = tarfile.TarInfo("zeros")
            entry.size = 10_000
            stored.addfile(entry, io.BytesIO(bytes(entry.size)))
    return file.getvalue()


def adobe(transform: int) -> bytes:
    """CMYK data whose Adobe segment says how to read them: 2 is YCCK."""
    data = bytearray(encoded(PHOTO.convert("CMYK"), "JPEG"))
    data[data.index(b"Adobe") + 11] = transform
    return bytes(data)


@lru_cache(1)
def survivable() -> dict[str, bytes]:
    """Strange pictures that a loader can read."""
    clear = PHOTO.copy()
    clear.putalpha(alpha(*PHOTO.size))
    deep = (np.asarray(PHOTO, np.uint16) * 257).byteswap()
    lines = b"".join(b"\0" + line.tobytes() for line in deep)
    frames = {"save_all": True, "append_images": [picture(120, 90, 1), picture(120, 90, 2)]}
    return {
        "png animated": encoded(PHOTO, "PNG", **frames),
        "png animated, hidden first": encoded(PHOTO, "PNG", default_image=True, **frames),
        "webp animated": encoded(PHOTO, "WEBP", lossless=True, **frames),
        "jpeg of several pictures": encoded(PHOTO, "MPO", **frames),
        "jpeg cmyk": encoded(PHOTO.convert("CMYK"), "JPEG"),
        "jpeg ycck": adobe(2),
        "jpeg adobe rgb": encoded(PHOTO, "JPEG", keep_rgb=True),
        "jpeg many restarts": encoded(PHOTO, "JPEG", restart_marker_blocks=1),
        "jpeg 100 scans": scans(100),
        "jpeg with 300 scans inside a comment": with_segments(segment(0xFE, b"\xff\xda" * 300)),
        "jpeg with scans in a comment before each scan": scans(9).replace(
            b"\xff\xda", segment(0xFE, b"\xff\xda" * 99) + b"\xff\xda"),
        "jpeg with a zip of jpegs": SMALL + archive("zip"),
        "jpeg exif whose entries overlap": overlapping_exif(),
        "jpeg exif of several segments": with_segments(segment(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0" + bytes(60_000)) * 40),
        "png with a tar": encoded(PHOTO, "PNG") + archive("tar"),
        "png with 2 MiB of zeros": encoded(PHOTO, "PNG") + bytes(2 << 20),
        "webp with 2 MiB of zeros": encoded(PHOTO, "WEBP") + bytes(2 << 20),
        "png palette, transparent": encoded(PHOTO.quantize(16), "PNG", transparency=1),
        "png 16 bit rgb": PNG + header(120, 90, bits=16) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND"),
        "png 16 bit grey": encoded(Image.fromarray(np.asarray(PHOTO.convert("L"), np.uint16) * 257), "PNG"),
        "png 1 bit": encoded(PHOTO.convert("1"), "PNG"),
        "png grey, alpha": encoded(clear.convert("LA"), "PNG"),
        "png whose data go on for 64 MiB": png(50, 50, packed=zlib.compress(bytes(64 << 20), 9)),
        "png 20,000 rows": png(1, 20_000),
        "png 20,000 columns": png(20_000, 1),
        "png 20,000 columns, palette": encoded(Image.new("P", (20_000, 1)), "PNG"),
        "jpeg 20,000 rows": encoded(picture(1, 20_000), "JPEG"),
        "webp 16,000 columns": encoded(picture(16_000, 1), "WEBP"),
        "png of 5,000 pixel chunks": PNG + header(50, 50) + chunk(b"IDAT") * 5000 + png(50, 50, colour=2)[33:],
    }


@lru_cache(1)
def refused() -> dict[str, tuple[bytes, set[str]]]:
    """Name -> (bytes, the codes that it may get)."""
    bomb = zlib.compress(bytes(64 << 20), 9)
    pixels, complex, damaged, banned = (
        {f"image_{code}"} for code in ("too_many_pixels", "too_complex", "undecodable", "format_not_allowed"))
    size = SMALL.index(b"\xff\xc0") + 5
    tall, none = (SMALL[:size] + struct.pack(">HH", rows, 60_000) + SMALL[size + 4:] for rows in (60_000, 0))
    return {
        "png claims 60,000 x 60,000": (png(60_000, 60_000, packed=zlib.compress(b"")), pixels),
        "png really of 100 megapixels": (png(10_000, 10_000), pixels),
        "jpeg claims 60,000 x 60,000": (tall, pixels),
        "webp claims 32,768 x 32,768": (webp(1 << 15, 1 << 15), pixels),
        "webp claims 16,777,216 x 255": (webp(1 << 24, 255), pixels),
        "png claims 2,147,483,647 x 1": (png((1 << 31) - 1, 1, packed=bomb), pixels),
        "png text bomb": (with_chunks(chunk(b"zTXt", b"a\0\0" + bomb)), damaged),
        "png international text bomb": (with_chunks(chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)), damaged),
        "png of 300 text bombs": (with_chunks(*[chunk(b"zTXt", b"%d\0\0" % i + zlib.compress(bytes(1 << 20))) for i in range(300)]),
                                  damaged),
        "jpeg of 1,000 scans": (scans(1000), complex),
        "jpeg of 101 scans behind a false end": (with_false_end(scans(101)), complex),
        "jpeg of 100,001 comments": (with_segments(segment(0xFE) * 100_001), complex),
        "jpeg of 1 MB junk": (SMALL[:20] + bytes(1_000_000) + SMALL[20:], complex),
        "png of 100,001 chunks": (with_chunks(chunk(b"prVt") * 100_001), complex),
        "png of 100,001 pixel chunks": (with_chunks(chunk(b"IDAT") * 100_001), complex),
        "webp of 100,001 chunks": (webp(64, 64, between=riff(b"JUNK") * 100_001), complex),
        "webp of 100,001 frames": (webp(64, 64, frames=100_001), complex),
        "png 0 x 5": (png(0, 5), damaged),
        "png 5 x 0": (png(5, 0, packed=zlib.compress(b"")), damaged),
        "jpeg of no rows": (none, damaged),
        "html that begins like a jpeg": (b"\xff\xd8\xff<html><script>alert(1)</script></html>", damaged | {"image_truncated"}),
        "html that begins like a png": (PNG + b"<html><script>alert(1)</script></html>", damaged | {"image_truncated"}),
        "gif and script": (b"GIF89a/*" + encoded(PHOTO, "GIF")[8:] + b"*/=1;alert(1)", banned),
        "png without pixels": (PNG + header(5, 5) + chunk(b"IEND"), damaged | {"image_truncated"}),
    }


def with_false_end(data: bytes) -> bytes:
    """The picture with an end-of-image inside a comment between its first two scans."""
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    return data[:second] + segment(0xFE, b"\xff\xd9") + data[second:]
