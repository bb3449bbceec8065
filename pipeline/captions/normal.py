"""The normal form of a caption, and what it measures."""

import re
import unicodedata

# Soft hyphens, zero-width spaces, byte-order marks and bidirectional controls split words without being seen. The
# zero-width joiner stays: emoji and Indic scripts are spelt with it.
_INVISIBLE = dict.fromkeys(
    [0x00AD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]
)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def normalised(caption: str) -> str:
    """Unicode NFC without invisible format characters; control characters and white space as single spaces, stripped."""
    text = caption if caption.isascii() else unicodedata.normalize("NFC", caption.translate(_INVISIBLE))
    return _SPACE.sub(" ", text).strip()


def letters_share(text: str) -> float:
    """Share of the characters (spaces aside) that are letters or the marks that belong to letters; 0 for no text."""
    characters = len(text) - text.count(" ")
    letters = sum(c.isalpha() or unicodedata.category(c).startswith("M") for c in text)
    return letters / characters if characters else 0.0


def repetition(words: list[str]) -> float:
    """1 - distinct words / words, in any case; 0 for no words."""
    return 1.0 - len({word.casefold() for word in words}) / len(words) if words else 0.0
