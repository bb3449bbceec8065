"""The bytes of a caption as text, by a policy that guesses little and says what it did.

What is UTF-8 is taken as it is. A byte order mark says what it is a mark of, but for UTF-8's own before bytes that are not UTF-8;
NULs in more than half of the letters, always at the same place, say UTF-16 or UTF-32. Halves of surrogate pairs that were written
as UTF-8 (by Java, or by half an emoji in JSON) are joined, or replaced where the other half is missing. Bytes that hold
characters of UTF-8 beside others are damaged UTF-8: what is damaged is replaced, what is cut at the end is left out. Anything
else is what the recipe's fallback says, if it can be that; else the sample fails by name. Whatever comes out can be written as
UTF-8.
"""

import codecs
import re
import unicodedata
from typing import NamedTuple

UTF8 = "utf-8"
WINDOWS_1252, NONE = "windows-1252", "none"
"""What captions of the western web are that are not UTF-8 (a fallback, and its default); and no fallback at all."""
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""The longer first: the mark of UTF-32-LE begins with that of UTF-16-LE."""
NO_TEXT, LOOKED_AT = {"Cc", "Cn", "Co", "Cs"}, 10_000
"""Unicode's categories of characters that texts do not have, and how many characters are looked at."""
REPLACEMENT = "\ufffd"
CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
"""One of UTF-8 beyond ASCII: nothing else looks like it by chance, but for pairs like \xc3\xa9 that only UTF-8 has."""
CUT = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})$")
"""A character of UTF-8 at the end, without its last bytes."""
STRANGE = re.compile(rb"[\x83-\x84\x86-\x90\x98\x9a-\x9f\xa1-\xa8\xaa\xac\xad\xaf\xb1-\xb6\xb8-\xba\xbc-\xff]{4}")
"""Four letters beyond ASCII in a row, which no language of windows-1252 writes; others do it in their own encodings."""
LETTERS = re.compile(rb"[A-Za-z]")
BEYOND = re.compile(rb"[\x81-\x84\x86-\x90\x98\x9a-\x9f\xc0-\xff]")
"""Letters of windows-1252 beyond ASCII."""
NOT_CHARSETS = {"unicode_escape", "raw_unicode_escape", "idna", "punycode", "undefined", "utf_7", "mbcs", "oem"}


class Decoded(NamedTuple):
    """A caption's text. `encoding`: what its bytes were taken for; UTF8 where they are this very text."""

    text: str
    encoding: str


def decoded(raw: bytes, fallback: str = WINDOWS_1252) -> Decoded | None:
    """The text of a caption, and what it was taken for; None where it is no text by this policy. `fallback`: NONE, or a name of
    Python's for an encoding (`checked_fallback`)."""
    marked = next((encoding for mark, encoding in MARKS if raw.startswith(mark)), None)
    if marked is not None:
        return _strictly(raw, marked, 4 if marked.startswith("utf-32") else 2)
    body = raw.removeprefix(codecs.BOM_UTF8)
    if (unmarked := _unmarked(body)) is not None:
        return _strictly(body, unmarked, 0)
    try:
        return Decoded(body.decode(), UTF8 if len(body) == len(raw) else "utf-8-sig")
    except UnicodeDecodeError:
        return _joined(body) or _damaged(body) or _by_fallback(body, fallback)


def readable(raw: bytes, fallback: str = WINDOWS_1252) -> str:
    """Text to look at, whatever the bytes are."""
    found = decoded(raw, fallback)
    return raw.decode(errors="replace") if found is None else found.text


def whole_characters(text: str) -> str:
    """The text with halves of surrogate pairs joined, and replaced where they are alone: what UTF-8 can say."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def is_encoding(name: str) -> bool:
    """Whether Python knows an encoding of texts by this name."""
    try:
        encoding = codecs.lookup(name)
    except (LookupError, ValueError):
        return False
    return bool(getattr(encoding, "_is_text_encoding", True)) and encoding.name.replace("-", "_") not in NOT_CHARSETS


def checked_fallback(name: str) -> str:
    """The name, if it is NONE or that of an encoding of texts. Raises ValueError, which says what would do."""
    if name != NONE and not is_encoding(name):
        raise ValueError(f"{name!r} is no encoding: write one that Python knows, e.g. windows-1252, cp1251, shift_jis, or none")
    return name


def _strictly(raw: bytes, encoding: str, mark: int) -> Decoded:
    """By its byte order mark; an odd byte or half a pair is replaced."""
    try:
        return Decoded(raw[mark:].decode(encoding), encoding)
    except UnicodeDecodeError:
        return Decoded(whole_characters(raw[mark:].decode(encoding, "replace")), f"damaged {encoding}")


def _unmarked(raw: bytes) -> str | None:
    """The UTF-32 or UTF-16 that bytes without a mark are: more than half of its letters have a NUL, always at the same place, and
    what comes out has no control characters."""
    if b"\0" not in raw:
        return None
    if len(raw) % 4 == 0 and len(raw) > 4:
        for encoding in ("utf-32-le", "utf-32-be"):
            if _clean(raw, encoding):
                return encoding
    units = len(raw) // 2
    first, second = raw[: 2 * units : 2], raw[1::2]
    for encoding, low, high in (("utf-16-le", first, second), ("utf-16-be", second, first)):
        if b"\0" not in low and 2 * high.count(0) > units > 1 and _clean(raw[: 2 * units], encoding):
            return encoding
    return None


def _clean(raw: bytes, encoding: str) -> bool:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return not any(unicodedata.category(character) in NO_TEXT for character in text[:LOOKED_AT] if not character.isspace())


def _joined(raw: bytes) -> Decoded | None:
    """What is UTF-8 but for halves of surrogate pairs."""
    try:
        halves = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    text = whole_characters(halves)
    return Decoded(text, "damaged utf-8" if REPLACEMENT in text else "cesu-8")


def _damaged(raw: bytes) -> Decoded | None:
    """What has characters of UTF-8, and no more places that are none. One byte at the end may be a letter of another encoding."""
    cut = CUT.search(raw)
    whole = raw if cut is None else raw[: cut.start()]
    characters = len(CHARACTER.findall(whole)) + (cut is not None and len(cut[0]) > 1)
    text = whole.decode(errors="replace")
    return Decoded(text, "damaged utf-8") if characters and text.count(REPLACEMENT) <= characters else None


def _western(raw: bytes) -> bool:
    """Whether this may be a text in windows-1252, in which every sequence of bytes is one but few are of a language."""
    few = len(BEYOND.findall(raw)) <= len(LETTERS.findall(raw)) + 2
    return few and b"\0" not in raw and STRANGE.search(raw) is None


def _by_fallback(raw: bytes, fallback: str) -> Decoded | None:
    if fallback == NONE or (fallback == WINDOWS_1252 and not _western(raw)):
        return None
    try:
        text = raw.decode(fallback)
        text.encode()
    except UnicodeError:
        return None
    return Decoded(text, fallback)
