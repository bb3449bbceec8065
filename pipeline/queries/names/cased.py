"""CaSED (Conti et al., "Vocabulary-free Image Classification", NeurIPS 2023): the captions nearest to a picture give the words, and
picture and captions together choose among them. Pure: vectors in, words out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.queries.names.candidates import Tagger, candidates
from pipeline.vectors import Doubles, Floats, Ints, unit

Embed = Callable[[Sequence[str]], Floats]
"""Texts to unit vectors f32 [n, d]."""


@dataclass(frozen=True)
class Naming:
    """The numbers of the paper."""

    captions: int = 10
    """The nearest that are asked."""
    same: float = 0.94
    """Cosine above which two captions say the same: of such a group (connected components) the nearest alone counts."""
    alpha: float = 0.7
    """Weight of the picture; the captions have the rest."""
    scale: float = 100.0
    """Of the cosines below the exponential: CLIP's."""


class ScoredName(NamedTuple):
    """A word, and how likely it is among the candidates of this picture: scores of two pictures cannot be compared."""

    name: str
    score: float


def distinct(vectors: Floats, same: float) -> Ints:
    """i64, ascending: the captions that stay of f32 [n, d], unit rows, the nearest first: the first of each group in which each is
    like another one."""
    alike = vectors @ vectors.T > same
    group = np.arange(len(vectors))
    for _ in range(len(vectors)):   # the smallest place of a neighbour, until nothing moves
        smallest = np.where(alike, group[None], len(vectors)).min(axis=1, initial=len(vectors))
        smallest = np.minimum(smallest, group)
        if (smallest == group).all():
            break
        group = smallest
    return np.flatnonzero(group == np.arange(len(vectors)))


def names(  # noqa: PLR0913
    picture: Floats, captions: Sequence[str], vectors: Floats, embed: Embed, tagger: Tagger, *, nouns: frozenset[str] = frozenset(),
    naming: Naming = Naming()
) -> list[ScoredName]:
    """The words for a picture f32 [d], the likeliest first, equal ones by the alphabet. `captions` and their vectors f32 [n, d] are
    the nearest to it, nearest first."""
    kept = distinct(vectors, naming.same)
    words = candidates([captions[place] for place in kept], tagger, nouns)
    texts = embed(words).astype(np.float64)
    mean = unit(vectors[kept].astype(np.float64).mean(axis=0)[None])[0] if len(kept) else picture
    scores = mixed(texts @ picture.astype(np.float64), texts @ mean.astype(np.float64), naming)
    order = sorted(range(len(words)), key=lambda place: (-scores[place], words[place]))
    return [ScoredName(words[place], float(scores[place])) for place in order]


def mixed(of_picture: Doubles, of_captions: Doubles, naming: Naming) -> Doubles:
    """f64 [n]: alpha softmax(scale x cosines to the picture) + (1 - alpha) softmax(scale x cosines to the captions)."""
    return naming.alpha * _softmax(naming.scale * of_picture) + (1 - naming.alpha) * _softmax(naming.scale * of_captions)


def _softmax(values: Doubles) -> Doubles:
    powers: Doubles = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())
