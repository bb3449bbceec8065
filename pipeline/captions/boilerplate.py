"""Captions that are stock phrases of web pages, URLs or markup and say nothing of the picture."""

import re

from pipeline.captions.phrases import MARKUP, MENU, PHRASES, PLACEHOLDERS

SHARE = 0.5
"""A caption is boilerplate when stock phrases cover more than this share of its words: a credit may be half of one."""

PHRASE_COUNT = 3
"""Different stock phrases from which a caption is boilerplate whatever else it says: a banner around a few words."""

MAX_CHARACTERS = 2_000
"""What is inspected of a caption: the time for one caption stays bounded."""

_WHOLE = re.compile("|".join((*PLACEHOLDERS, MENU)), re.IGNORECASE)
_IDENTIFIER = str.maketrans("_", " ")   # templates spell their placeholders as identifiers
_STOCK = tuple(
    re.compile(pattern, re.IGNORECASE) for pattern in (*MARKUP, *(rf"(?<!\w)(?:{phrase})(?!\w)" for phrase in PHRASES))
)
_ANY_PHRASE = re.compile(rf"(?<!\w)(?:{'|'.join(PHRASES)})(?!\w)")
_ANY_MARKUP = re.compile("|".join(MARKUP))
"""Over ASCII text in lower case: no match, no stock phrase. One look instead of one for each of them, and case by case it
takes twice as long. (The names at the end of credit lines are in capitals, but a line counts without its name.)"""
_WORD = re.compile(r"\S*\w\S*")   # a URL is one word


def is_boilerplate(text: str) -> bool:
    """Whether a normalised caption is more than half stock phrases. An empty caption is not: it is only short.

    "Red fox in the snow, stock photo" is not boilerplate, "Photo by Jane Doe / Getty Images" is.
    """
    text = text[:MAX_CHARACTERS]
    if _WHOLE.fullmatch(text.translate(_IDENTIFIER).strip(" .,:;!?-–—|*[](){}<>\"'#/")):
        return True
    if text.isascii() and not _mentions_any(text.lower()):
        return False
    covered = bytearray(len(text))
    phrases = 0
    for pattern in _STOCK:
        spans = [match.span() for match in pattern.finditer(text)]
        phrases += bool(spans)
        for start, end in spans:
            covered[start:end] = b"\1" * (end - start)
    if not phrases:
        return False
    words = [match.start() for match in _WORD.finditer(text)]
    return phrases >= PHRASE_COUNT or sum(covered[start] for start in words) > SHARE * len(words)


def _mentions_any(text: str) -> bool:
    return bool(_ANY_PHRASE.search(text) or _ANY_MARKUP.search(text))
