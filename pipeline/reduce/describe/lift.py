"""Entities that stand out among the samples of a class.

Standing out is Dunning's log-likelihood ratio G2 (1993) of "has the entity" against "is in the class", positive side only;
an entity counts as present where a sample has it or one a few levels below it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow.compute as pc

from pipeline.reduce.describe.presence import Counts, ancestry
from pipeline.vectors import Doubles, Floats, Ints

RIGHT_SHARE, RIGHT_LIFT = 0.2, 2.0
"""What a name must hold for: this share of the class's pictures, and this many times the share among all."""
PRIOR = 12.0
"""Samples. The best of many entities is luck in part; with 12 the first names of the bundled sample are on average as right on a
held-out half as they say (k = 16, 32, 64: .44 said and .42 right, .50 and .49, .56 and .64)."""
HIGHEST = 64   # levels of a hierarchy that are counted; WordNet's nouns have 19


@dataclass(frozen=True)
class NamingRule:
    """When an entity may name a class."""

    levels: int = 4
    """Hypernyms this far up count as present."""
    significance: float = 5.02
    """Least G2: 5.02 is p = 0.025 for one comparison (chi squared, one degree of freedom)."""
    least_members: int = 3
    """Samples of the class that must have it: G2 overrates coincidences of two."""
    least_share: float = 0.1
    """Of the class's samples that must have it."""
    least_lift: float = 2.0
    """Share in the class over share in all."""
    most: int = 8
    """Entities listed per class."""
    least_depth: int = 4
    """Levels below the top of the hierarchy: "abstraction" or "whole" says nothing. Applies to hypernyms, so an entity of a
    knowledge base without a hierarchy always counts."""
    text_weight: float = 0.0
    """Added to the signed root of G2: this times the cosine of the centroid and the entity's text, standardised over the
    candidates of the class. At 0 the cosine only breaks ties."""


@dataclass(frozen=True)
class Vocabulary:
    """What naming needs of a knowledge base."""

    parents: Mapping[str, Sequence[str]]
    """id -> hypernym ids"""
    names: Mapping[str, str]
    """id -> preferred name"""
    texts: Mapping[str, Floats] = field(default_factory=dict)
    """id -> unit text embedding; may be empty"""


@dataclass(frozen=True)
class Candidate:
    """An entity that stands out in a class."""

    id: str
    name: str
    score: float
    """Signed root of G2, with the text term where the rule weighs it."""
    lift: float
    share: float
    depth: int
    confidence: float = 0.0
    """See `confidence`."""
    closeness: float = 0.0
    """Cosine of the centroid and the entity's text; 0 without texts."""


def log_likelihood_ratio(both: Ints, entity: Ints, members: Ints, total: int) -> Doubles:
    """G2 of the table [[both, entity - both], [members - both, rest]]; negative where the entity is rarer than expected."""
    cells = np.stack([both, entity - both, members - both, total - entity - members + both]).astype(np.float64)
    rows = np.stack([entity, entity, total - entity, total - entity]).astype(np.float64)
    columns = np.stack([members, total - members, members, total - members]).astype(np.float64)
    expected = rows * columns / total
    terms = cells * np.log(np.where(cells > 0, cells, 1) / np.where(expected > 0, expected, 1))
    sign = np.where(cells[0] >= expected[0], 1.0, -1.0)
    return np.asarray(sign * 2 * np.maximum(terms.sum(axis=0), 0))


def depth(id: str, parents: Mapping[str, Sequence[str]]) -> int:
    """Most steps up to an entity without hypernyms (so an entity is deeper than all its hypernyms); circles end at a cap."""
    steps, edge = 0, set(parents.get(id, ()))
    while edge and steps < HIGHEST:
        edge = {up for one in edge for up in parents.get(one, ())}
        steps += 1
    return steps


def standing_out(counts: Counts, centroids: Floats, rule: NamingRule, vocabulary: Vocabulary) -> list[list[Candidate]]:
    """For each class its entities, best first (equal scores by id); an empty list where none is significant."""
    cells = counts.cells
    cls, both = np.asarray(cells.column("class")), np.asarray(cells.column("both"))
    coded = cells.column("entity").combine_chunks().dictionary_encode()
    ids, entity = coded.dictionary.to_pylist(), np.asarray(coded.indices)
    overall = np.bincount(entity, both, len(ids)).astype(np.int64)
    hypernyms = set(pc.unique(cells.filter(cells.column("above")).column("entity")).to_pylist())
    ratio = log_likelihood_ratio(both, overall[entity], counts.sizes[cls], counts.samples)
    share = both / counts.sizes[cls]
    base = overall[entity] / max(counts.samples, 1)
    lift, sure = share / base, confidence(both, counts.sizes[cls], base)
    good = (ratio >= rule.significance) & (both >= rule.least_members)
    good &= (share >= rule.least_share) & (lift >= rule.least_lift)
    result: list[list[Candidate]] = [[] for _ in range(len(centroids))]
    for i in np.flatnonzero(good):
        id = ids[entity[i]]
        level = depth(id, vocabulary.parents)
        if level >= rule.least_depth or id not in hypernyms:
            measures = (float(np.sqrt(ratio[i])), float(lift[i]), float(share[i]), level, float(sure[i]))
            result[cls[i]].append(Candidate(id, vocabulary.names.get(id, id), *measures))
    return [_ordered(candidates, centroids[c], rule, vocabulary) for c, candidates in enumerate(result)]


def confidence(both: Ints, members: Ints, base: Doubles) -> Doubles:
    """The chance that an entity describes its class: that of all pictures that would fall into the class at least 20 %, and at
    least twice its base rate, have it. Posterior of the share under a Beta prior at the base rate that weighs as much as
    PRIOR samples."""
    from scipy.special import betaincc  # a quarter of a second that only naming pays

    bound = np.clip(np.maximum(RIGHT_SHARE, RIGHT_LIFT * base), 0, 1)
    return np.asarray(betaincc(both + PRIOR * base, np.maximum(members - both + PRIOR * (1 - base), 1e-9), bound))


def _ordered(candidates: list[Candidate], centroid: Floats, rule: NamingRule, vocabulary: Vocabulary) -> list[Candidate]:
    """Best first, without hypernyms that only repeat an entity before them. Of equals first the more specific, then the one
    whose text is closer to the centroid."""
    if vocabulary.texts:
        candidates = _with_text(candidates, centroid, rule, vocabulary)
    chosen: list[Candidate] = []
    said: dict[str, set[float]] = {}
    for one in sorted(candidates, key=lambda one: (-one.score, -one.depth, -one.closeness, one.id)):
        if one.share in said.get(one.id, ()):
            continue
        chosen.append(one)
        for above in ancestry(one.id, vocabulary.parents, rule.levels):
            said.setdefault(above, set()).add(one.share)
    return chosen[: rule.most]


def _with_text(
    candidates: list[Candidate], centroid: Floats, rule: NamingRule, vocabulary: Vocabulary
) -> list[Candidate]:
    """With closeness, and its standardised value weighed into the score; entities without a text count as average."""
    known = {one.id: float(vocabulary.texts[one.id] @ centroid) for one in candidates if one.id in vocabulary.texts}
    if not known:
        return candidates
    middle, spread = float(np.mean(list(known.values()))), float(np.std(list(known.values())))
    weight = rule.text_weight / spread if spread else 0.0
    return [
        replace(one, score=one.score + weight * (known.get(one.id, middle) - middle), closeness=known.get(one.id, middle))
        for one in candidates
    ]
