"""The alias index: which words of a caption name an entity of the knowledge base. A pure dictionary matcher."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from functools import cached_property, lru_cache
from math import log
from typing import NamedTuple

from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.entities.lemmas import WORD, folded, singulars, words
from pipeline.entities.stop_words import STOP_ENTITIES, STOP_WORDS
from pipeline.work import collector_paused

DEPICTABLE_MASS = 0.1
"""Aliases with less of their use (corpus counts) on depictable senses are no mentions: "age", "use", "kind"."""

MAX_CHARACTERS = 10_000
"""What is matched of a caption; longer ones are page text, and time must stay bounded."""

_SMALL = re.compile(r"\b[a-z]+\b")       # ordinary words: prose writes them small
_JOINED = re.compile(r"[\s\-_./'’&]{0,3}")   # what may stand between the words of one alias


class Written(IntFlag):
    """How a word is written; a sense says which ways may mean it."""

    SMALL = 1
    CAPITAL = 2
    """the first letter alone, or mixed"""
    CAPITALS = 4
    ANY = SMALL | CAPITAL | CAPITALS

    @classmethod
    def of(cls, text: str) -> "Written":
        """How this text is written: all small (or digits alone), all capitals, or else with a capital."""
        return cls.CAPITALS if text.isupper() else cls.SMALL if text.islower() or text.isdigit() else cls.CAPITAL


class Candidate(NamedTuple):
    """A sense of an alias: row in the knowledge base, log prior among the alias's senses, ways to write it."""

    row: int
    log_prior: float
    written: Written


class _Use(NamedTuple):
    row: int
    rank: int
    frequency: int
    written: Written

    def joined(self, other: "_Use") -> "_Use":
        """One use of two spellings of the same sense ("sun", "Sun")."""
        return _Use(self.row, min(self.rank, other.rank), max(self.frequency, other.frequency), self.written | other.written)


class Match(NamedTuple):
    """A mention: character span [start, end) and the alias."""

    start: int
    end: int
    alias: str


@dataclass(frozen=True)
class AliasIndex:
    """Folded aliases and their senses. An alias without senses is blocked: it takes its words and yields nothing."""

    senses: Mapping[str, tuple[Candidate, ...]]
    longest: Mapping[str, int]
    """First word -> the number of words of the longest alias that starts with it."""
    base: KnowledgeBase

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Words that the knowledge base uses, in names and in descriptions; and the stop words."""
        return prose(self.base).union(" ".join(self.senses).split())

    def matches(self, text: str) -> list[Match]:
        """Mentions from left to right, the longest at each place, without overlap."""
        tokens = [(match.start(), match.end(), match.group()) for match in WORD.finditer(text, 0, MAX_CHARACTERS)]
        keys = [folded(word) for _, _, word in tokens]
        matches: list[Match] = []
        at = 0
        while at < len(keys):
            alias, count = self._longest(text, tokens, keys, at)
            if alias is not None:
                start, end = tokens[at][0], tokens[at + count - 1][1]
                if self.candidates(alias, text[start:end]):
                    matches.append(Match(start, end, alias))
            at += count
        return matches

    def _longest(
        self, text: str, tokens: list[tuple[int, int, str]], keys: list[str], at: int
    ) -> tuple[str | None, int]:
        for count in range(min(self.longest.get(keys[at], 1), len(keys) - at), 1, -1):
            alias = self._alias(" ".join(keys[at : at + count - 1]) + " ", keys[at + count - 1])
            if alias is not None and all(
                _JOINED.fullmatch(text, tokens[i][1], tokens[i + 1][0]) for i in range(at, at + count - 1)
            ):
                return alias, count
        return self._alias("", keys[at]), 1

    def _alias(self, prefix: str, word: str) -> str | None:
        """The alias `prefix` + `word`, or + its singular; None when the index has neither."""
        if prefix + word in self.senses:
            return prefix + word
        return next((prefix + form for form in singulars(word) if prefix + form in self.senses), None)

    def candidates(self, alias: str, text: str) -> list[Candidate]:
        """The senses of an alias, as far as the way it is written in the text allows them."""
        form = Written.of(text)
        return [sense for sense in self.senses.get(alias, ()) if sense.written & form]

    def known_share(self, text: str) -> float:
        """Share of the words (digits aside) that the vocabulary has, plurals as singulars; 0 where there are none."""
        tokens = [word for word in words(text[:MAX_CHARACTERS]) if not word.isdigit()]
        in_vocabulary = sum(word in self.vocabulary or any(s in self.vocabulary for s in singulars(word)) for word in tokens)
        return in_vocabulary / len(tokens) if tokens else 0.0


def build(base: KnowledgeBase, stop: tuple[str, ...] = ()) -> AliasIndex:
    """The index of a knowledge base, made once in a process; `stop` are further aliases that are never mentions."""
    return _built(base, stop)   # the cache tells a default from the same value given


@lru_cache(maxsize=2)
@collector_paused()
def _built(base: KnowledgeBase, stop: tuple[str, ...]) -> AliasIndex:
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    closed: dict[str, str] = {}
    for row, lemmas in enumerate(base.lemmas):
        for place, lemma in enumerate(lemmas):
            key = " ".join(words(lemma))
            if len(key) > 1:
                places[key].append((row, place))
            if "-" in lemma and " " not in lemma:
                closed[key.replace(" ", "")] = key   # "T-shirt" is also spelt "tshirt"
    for spelt, key in closed.items():
        if spelt not in places:
            places[spelt] = places[key]
    blocked = STOP_WORDS | STOP_ENTITIES | {" ".join(words(alias)) for alias in stop}
    longest: dict[str, int] = defaultdict(int)
    for key in (*places, *blocked):
        first = key.split(" ", 1)[0]
        longest[first] = max(longest[first], key.count(" ") + 1)
    return AliasIndex(_Senses(base, dict(places), blocked), dict(longest), base)


@lru_cache(maxsize=2)
def prose(base: KnowledgeBase) -> frozenset[str]:
    """Words that the knowledge base's descriptions write small."""
    return frozenset(_SMALL.findall("\n".join(base.glosses)))


@dataclass(frozen=True, eq=False)
class _Senses(Mapping[str, tuple[Candidate, ...]]):
    """The senses of each alias, found when they are asked for: captions mention one in a hundred of them."""

    base: KnowledgeBase
    places: dict[str, list[tuple[int, int]]]
    """Where an alias is a lemma: rows of the knowledge base, and places among their lemmas."""
    blocked: frozenset[str]
    _known: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)

    def __getitem__(self, alias: str) -> tuple[Candidate, ...]:
        if alias not in self:
            raise KeyError(alias)
        return () if alias in self.blocked else self._named(alias)

    def __contains__(self, alias: object) -> bool:
        return alias in self.blocked or (isinstance(alias, str) and alias in self.places and not self._is_plural(alias))

    def __iter__(self) -> Iterator[str]:
        return filter(self.__contains__, self.places.keys() | self.blocked)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _is_plural(self, alias: str) -> bool:
        """Whether an alias without senses is the plural of one that has some: "shoes" is a state of affairs only in an idiom."""
        singular = [form for form in singulars(alias) if form in self.places]
        return bool(singular) and not self._named(alias) and any(map(self._named, singular))

    def _named(self, alias: str) -> tuple[Candidate, ...]:
        if alias not in self._known:
            places = self.places[alias]
            spelt = next((" ".join(words(self.base.lemmas[row][place])) for row, place in places), alias)   # of "xy", maybe "x y"
            self._known[alias] = _senses(self.base, spelt, _by_row([self._use(row, place) for row, place in places]))
        return self._known[alias]

    def _use(self, row: int, place: int) -> _Use:
        lemma, count = self.base.lemmas[row][place], self.base.counts[row][place]
        return _Use(row, self.base.ranks[row][place], count, _written(lemma, " ".join(words(lemma)), count, self.base))


def _by_row(uses: list[_Use]) -> list[_Use]:
    """One use of each row, in the order of their first."""
    if len(uses) == 1:
        return uses
    by_row: dict[int, _Use] = {}
    for use in uses:
        by_row[use.row] = use.joined(by_row[use.row]) if use.row in by_row else use
    return list(by_row.values())


def _written(lemma: str, key: str, count: int, base: KnowledgeBase) -> Written:
    """The ways of writing a lemma that may mean it. Web captions are often all small, so "paris" and "usb" match; but
    "young" is no Young and "add" no ADD (a disorder): a single small word that prose uses needs its capitals, unless
    the corpus knows the name. An acronym is not written like a name: "Nicu" is a person, NICU a ward."""
    if " " in key or lemma.islower():
        return Written.ANY
    capitals = sum(character.isupper() for character in lemma)
    if not capitals:
        return Written.ANY
    acronym = capitals > 1 and lemma == lemma.upper()
    small = Written.ANY if count or not (key in prose(base) or len(key) <= 2) else ~Written.SMALL
    return small & (~Written.CAPITAL if acronym else Written.ANY)


def _senses(base: KnowledgeBase, key: str, uses: list[_Use]) -> tuple[Candidate, ...]:
    """The senses with their priors; none when the alias is mostly used for what no picture shows.

    Counts of a small corpus are mostly zero, so that 1 / rank is added. Two-letter aliases are units, states,
    notes and symbols of elements; those of things that pictures do show stay (ox, TV).
    """
    if len(key) <= 2:
        uses = [use for use in uses if base.depictability(use.row) >= 1]
    if len(uses) == 1:   # 86 of 100 aliases
        use = uses[0]
        return (Candidate(use.row, 0.0, use.written),) if base.depictability(use.row) >= 0 else ()
    weights = [use.frequency + 1.0 / max(use.rank, 1) for use in uses]
    total = sum(weights)
    depictable = sum(weight for use, weight in zip(uses, weights, strict=True) if base.depictability(use.row) >= 0)
    if not uses or depictable < DEPICTABLE_MASS * total:
        return ()
    return tuple(Candidate(use.row, log(weight / total), use.written) for use, weight in zip(uses, weights, strict=True))
