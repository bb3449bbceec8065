"""Pictures that come with a request: out of base64, held against the limits by their header, then decoded once in a process of
their own, so that a decoder's crash costs the request and not the service."""

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.errors import SampleFailure
from pipeline.models.pixels.formats import DECODABLE
from pipeline.models.pixels.guard import Guard
from pipeline.models.pixels.header import refuse_large
from pipeline.queries.neighbours.query import WORDS
from pipeline.serve.problems import Refused
from pipeline.serve.settings import Settings
from schemas.reasons import ImageFault

DECODER = Guard("pipeline.models.pixels.header:decode_by_pillow", seconds=20.0)
FURTHER = {
    ImageFault.DECODER_CRASHED: "the decoder crashed", ImageFault.DECODER_HUNG: "decoding it takes too long",
    ImageFault.TOO_MANY_PIXELS: "it has more pixels than this service takes",
    ImageFault.FORMAT_NOT_ALLOWED: "its format is none of those that the root's recipe allows",
}


def from_base64(text: str, limit: int, field: str = "image") -> bytes:
    """The bytes that a request has as base64, or as a data: URL of it. Raises Refused for what is neither, and for too many
    bytes."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise Refused(400, "image is a data: URL without base64", field=field)
    if len(text) * 3 // 4 > limit + 3:
        raise Refused(413, f"a picture has at most {limit:,} bytes", field=field)
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "image is no base64", field=field) from None
    if not content:
        raise Refused(400, "image is empty", field=field)
    return content


@contextmanager
def picture_guard(settings: Settings) -> "Iterator[PictureGuard]":
    """What checks the pictures of a service's requests; its child process begins with the first picture and ends with the block."""
    with DECODER.open(DECODABLE, settings.picture_pixels) as survives:
        yield PictureGuard(settings, survives)


@dataclass(frozen=True)
class PictureGuard:
    """Safe for many threads; one picture is decoded at a time."""

    settings: Settings
    survives: Callable[[bytes], None]
    """returns for a picture that the decoder survives; else raises SampleFailure"""

    def check(self, content: bytes, formats: Sequence[str], field: str = "image") -> bytes:
        """The same bytes, of a picture that may be decoded in this process. Raises Refused for others."""
        if len(content) > self.settings.picture_bytes:
            raise Refused(413, f"a picture has at most {self.settings.picture_bytes:,} bytes", field=field)
        try:
            refuse_large(content, formats, self.settings.picture_pixels)
            self.survives(content)
        except SampleFailure as failure:
            fault = ImageFault(failure.code)
            why = FURTHER.get(fault, WORDS.get(fault, fault.value))
            raise Refused(400, f"the picture cannot be read: {why}", field=field, code=fault.value) from None
        return content
