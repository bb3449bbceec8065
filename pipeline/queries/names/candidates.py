"""Words of captions that may name what a picture shows (CaSED, Conti et al. 2023, §3.2 and its code): cleaned, counted, and of a
kind that names things. Pure."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from pipeline.entities.lemmas import singulars
from pipeline.entities.stop_words import STOP_WORDS

NOTHING = "object"
"""What is left to say where no word is left."""
DROPPED = frozenset((
    "image", "photo", "picture", "thumbnail", "logo", "symbol", "clipart", "portrait", "painting", "illustration", "icon",
    "profile",
))
"""What a picture is called whatever it shows."""
SHORTEST = 3
OFTEN = 2
"""A word that so many of the captions' words are counts; where none is, those that occur most do."""
_TOKEN = re.compile(r"<[^<>\s]{1,40}>")
_URL = re.compile(r"(?:https?://|www\.)\S+|[^\s@]{1,64}@[^\s@]{1,255}", re.IGNORECASE)
_FILE = re.compile(r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|psd|eps|pdf|html?|mp4|mov|avi)\b", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\W_]+")

Tagger = Callable[[str], bool]
"""Whether a word, in lower case and singular, is a noun, an adjective or a participle (NN*, JJ*, VBG, VBN)."""


def names_things(nouns: Iterable[str] = ()) -> Tagger:
    """A tagger without a model: function words, common adjectives of size and quality, and adverbs in -ly that are no noun in
    `nouns` are none; every other word may be one, for most words that are not known are names."""
    known = frozenset(nouns)
    return lambda word: word not in STOP_WORDS and (word in known or not word.endswith("ly"))


def words_of(caption: str, nouns: frozenset[str] = frozenset()) -> list[str]:
    """The words of a caption, in order: without tokens, addresses, ends of file names, and whatever is not all letters or too
    short; in lower case, plurals in the singular where `nouns` has that."""
    for pattern in (_TOKEN, _URL, _FILE):
        caption = pattern.sub(" ", caption)
    words = [word.lower() for word in _SEPARATOR.sub(" ", caption).split() if word.isalpha()]
    return [_singular(word, nouns) for word in words if len(word) >= SHORTEST]


def _singular(word: str, nouns: frozenset[str]) -> str:
    return next((form for form in singulars(word) if form in nouns), word)


def candidates(captions: Sequence[str], tagger: Tagger, nouns: frozenset[str] = frozenset()) -> list[str]:
    """The words of these captions, taken together, that may name what they are about, in the order of the alphabet; never none."""
    counts = Counter(word for caption in captions for word in words_of(caption, nouns) if word not in DROPPED)
    least = min(OFTEN, max(counts.values(), default=0))
    return sorted(word for word, count in counts.items() if count >= least and tagger(word)) or [NOTHING]
