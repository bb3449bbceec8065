"""Inputs as people have them: captions in other encodings, metadata that strict readers refuse, pictures in formats that trainers
skip or that are to be turned, columns of parquet files in types that kernels lack."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.recipe.recipe import load
from tests.broken import tar
from tests.damage import clean_pairs

FORMATS = ("gif", "bmp", "tiff", "avif", "png")
RULES_OFF = [f"filters.{name}=null" for name in load("sample").filters]
OVERRIDES = [*RULES_OFF, f"image.allowed_formats=[jpeg, webp, {', '.join(FORMATS)}]", "export.transcode=png",
             "export.orient=upright", "model.compile=false"]

TEXTS: dict[str, tuple[bytes, str]] = {
    "flag": (b"The flag of C\xf4te d\x92Ivoire", "The flag of Côte d’Ivoire"), "mark": ("\ufeffa mark".encode(), "a mark"),
    "notepad": ("by notepad".encode("utf-16"), "by notepad"), "nul": (b"with a\0NUL", "with a\0NUL"),
    "cut": ("naïve café".encode()[:-1], "naïve caf"), "blank": (b" \r\n\t ", " \r\n\t "), "empty": (b"", ""),
}
"""Bytes of text members, and what is written."""
OBJECTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "nan": (b'{"punsafe": NaN, "id": 12}', {"punsafe": None, "id": 12}),
    "big": (b'{"f": 1e400, "n": 1%s}' % (b"0" * 20), {"f": None}),
    "half": (b'{"title": "cut \\ud83d"}', {"title": "cut \ufffd"}), "list": (b'[{"bbox": [1]}]', {"source": [{"bbox": [1]}]}),
    "null": (b"null", {}), "none": (b"", {}), "broken": (b'{"id": 16, "capt', {}), "latin": (b'{"author": "Ren\xe9"}', {}),
}
"""Metadata members, and what is written beside our keys."""


def encoded(picture: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format)
    return buffer.getvalue()


def write_odd(folder: Path, sample: Path) -> dict[str, bytes]:
    """Four shards in an empty folder; the pictures by format, and the one that is to be turned."""
    images: Iterator[bytes] = iter([image for image, _ in clean_pairs(sample).values()])
    picture = Image.open(io.BytesIO(next(images))).resize((96, 64))
    pictures = {format: encoded(picture, format) for format in FORMATS}
    texts = [one for key, (raw, _) in TEXTS.items() for one in ((f"{key}.jpg", next(images)), (f"{key}.txt", raw))]
    objects = [one for key, (raw, _) in OBJECTS.items()
               for one in ((f"{key}.jpg", next(images)), (f"{key}.txt", key.encode()), (f"{key}.json", raw))]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    picture.save(turned, "jpeg", exif=exif, quality=95)
    pictures["turned"] = turned.getvalue()
    (folder / "turned.tar").write_bytes(tar(("turned.jpg", pictures["turned"]), ("turned.txt", b"turned")))
    (folder / "members.tar").write_bytes(tar(*texts, *objects, ("russian.jpg", next(images)),
                                             ("russian.txt", "привет мир".encode("cp1251"))))
    (folder / "pictures.tar").write_bytes(
        tar(*(one for format in FORMATS for one in ((f"{format}.{format}", pictures[format]), (f"{format}.txt", b"tar")))))
    caption = pa.array(["parquet"] * len(FORMATS), pa.string_view())
    images_in_rows = pa.array([pictures[format] for format in FORMATS], pa.binary_view())
    pq.write_table(pa.table({"image": images_in_rows, "key": list(FORMATS), "caption": caption,
                             "url": pa.array(FORMATS, pa.string_view())}), folder / "views.parquet")
    return pictures
