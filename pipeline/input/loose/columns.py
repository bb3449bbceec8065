"""Which column of a table means what, by its name; and what a value becomes in a sample."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.errors import InputError
from pipeline.input.loose.commands import by_url
from pipeline.input.loose.items import SURROGATES, is_image
from pipeline.input.metadata import dumped
from pipeline.input.values import plain

IMAGES = ("imagepath", "imgpath", "filepath", "filename", "path", "imagefile", "imagename", "file", "image", "img")
CAPTIONS = ("caption", "text", "txt", "title", "comment", "captions", "description", "sentence", "sentences", "alttext", "prompt")
URLS = ("url", "imageurl", "imgurl", "link", "src", "imagelink", "photoimageurl")
"""Names of columns in lower case, letters and digits alone; the first that is there counts."""
IS_URL = re.compile(r"\s*https?://", re.IGNORECASE)


class NamesUrls(InputError):
    """A table that names images by URL."""


@dataclass(frozen=True)
class Columns:
    """The columns that were asked for by name; empty: found by IMAGES and CAPTIONS."""

    image: str = ""
    caption: str = ""

    def chosen(self, names: Sequence[str]) -> tuple[str | None, str | None]:
        """The column of images and that of captions among these."""
        return _chosen(tuple(names), self.image, self.caption)

    def check(self, table: str, names: Sequence[str], first: Any) -> None:
        """Raises InputError where a table of these columns cannot be packed, NamesUrls where it names images by URL.

        `first`: what the first row has as its image.
        """
        image, caption = self.chosen(names)
        listed = ", ".join(repr(name) for name in names)
        url = _first(names, URLS)
        if isinstance(first, str) and IS_URL.match(first):
            raise NamesUrls(f"input {table!r}: column {image!r} holds URLs; {by_url(table, image or '', caption)}")
        if any(is_image(name) or IS_URL.match(name) for name in names):
            raise InputError(f"input {table!r}: its first line is data ({listed[:200]}): put the names of the columns before it")
        if image is None and url is not None and not self.image:
            raise NamesUrls(f"input {table!r}: column {url!r} holds URLs, none holds paths; {by_url(table, url, caption)}")
        if image is None:
            asked = f"no column {self.image!r}" if self.image else "no column of image paths"
            raise InputError(f"input {table!r}: {asked} among {listed}; name it by --image-column NAME")
        if caption is None and self.caption:
            raise InputError(f"input {table!r}: no column {self.caption!r} among {listed}")
        twice = next((name for name, count in Counter(names).items() if name and count > 1), None)   # spreadsheets leave empty ones
        if twice is not None:
            raise InputError(f"input {table!r}: two columns are called {twice!r}: rename one")


@lru_cache(maxsize=64)
def _chosen(names: tuple[str, ...], image: str, caption: str) -> tuple[str | None, str | None]:
    found = (image if image in names else None) if image else _first(names, IMAGES)
    others = tuple(name for name in names if name != found)
    return found, (caption if caption in names else None) if caption else _first(others, CAPTIONS)


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    return next((plain[key] for key in wanted if key in plain), None)


def text_of(value: Any) -> Any:
    """The value, as text where it is bytes; one that is not UTF-8 is half a surrogate pair."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def captions_of(value: Any) -> list[bytes | None]:
    """The captions in one value: a text, or several in a list; one None without any."""
    texts = value if isinstance(value, list | tuple) else [value]
    return [_bytes(text) for text in texts if isinstance(text, str | bytes)] or [None]


def _bytes(text: str | bytes) -> bytes:
    """The bytes that a text was read from, where they were not valid ones too."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:   # JSON may escape half of a surrogate pair
        return SURROGATES.sub("\ufffd", text).encode()


def object_of(values: dict[str, Any]) -> bytes:
    """A row as a JSON object that strict readers take."""
    return dumped(plain(values))
