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
"""A name is right where at least this share of the class's pictures has the entity, and this many times the share among all."""
PRIOR = 12.0
"""Samples that the prior weighs as much as. The best of many entities is luck in part; with 12 the first names of the bundled
sample are on average as right on a held-out half as they say (k = 16, 32, 64: .44 predicted and .42 right, .50 and .49, .56 and
.64)."""
HIGHEST = 64   # levels of a hierarchy that are counted; WordNet's nouns have 19


@dataclass(frozen=True)
class NamingRule:
    """When an entity may name a class."""

    levels: int = 4
    """Hypernyms up to so many levels above an entity count as present."""
    significance: float = 5.02
    """Least G2: 5.02 is p = 0.025 for one comparison (chi squared, one degree of freedom)."""
    min_members: int = 3
    """Samples of the class that must have it: G2 overrates coincidences of two."""
    min_share: float = 0.1
    """Share of the class's samples (0..1) that must have it."""
    min_lift: float = 2.0
    """Least share in the class over share in all."""
    max_entities: int = 8
    """Entities listed per class."""
    min_depth: int = 4
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
    """id -> text embedding, f32[d], unit length; may be empty"""


@dataclass(frozen=True)
class NameCandidate:
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


def log_likelihood_ratio(joint: Ints, entity: Ints, members: Ints, total: int) -> Doubles:
    """G2 (Dunning 1993) of the tables [[joint, entity - joint], [members - joint, rest]] of `total` samples each: f64[p] from
    counts i64[p]; negative where the entity is rarer than expected."""
    cells = np.stack([joint, entity - joint, members - joint, total - entity - members + joint]).astype(np.float64)
    rows = np.stack([entity, entity, total - entity, total - entity]).astype(np.float64)
    columns = np.stack([members, total - members, members, total - members]).astype(np.float64)
    expected = rows * columns / total
    terms = cells * np.log(np.where(cells > 0, cells, 1) / np.where(expected > 0, expected, 1))
    sign = np.where(cells[0] >= expected[0], 1.0, -1.0)
    return np.asarray(sign * 2 * np.maximum(terms.sum(axis=0), 0))


def hypernym_depth(id: str, parents: Mapping[str, Sequence[str]]) -> int:
    """The most levels up to an entity without hypernyms (so an entity is deeper than all its hypernyms); circles end at HIGHEST."""
    steps, edge = 0, set(parents.get(id, ()))
    while edge and steps < HIGHEST:
        edge = {hypernym for entity in edge for hypernym in parents.get(entity, ())}
        steps += 1
    return steps


def distinctive_entities(counts: Counts, centroids: Floats, rule: NamingRule, vocabulary: Vocabulary) -> list[list[NameCandidate]]:
    """For each class (centroids f32[k, d]) the entities that stand out in it, best first (equal scores by id); an empty list where
    none is significant."""
    cells = counts.cells
    cls, joint = np.asarray(cells.column("class")), np.asarray(cells.column("both"))
    coded = cells.column("entity").combine_chunks().dictionary_encode()
    ids, entity = coded.dictionary.to_pylist(), np.asarray(coded.indices)
    overall = np.bincount(entity, joint, len(ids)).astype(np.int64)
    hypernyms = set(pc.unique(cells.filter(cells.column("above")).column("entity")).to_pylist())
    ratio = log_likelihood_ratio(joint, overall[entity], counts.sizes[cls], counts.samples)
    share = joint / counts.sizes[cls]
    base = overall[entity] / max(counts.samples, 1)
    lift, certainty = share / base, confidence(joint, counts.sizes[cls], base)
    significant = (ratio >= rule.significance) & (joint >= rule.min_members)
    significant &= (share >= rule.min_share) & (lift >= rule.min_lift)
    result: list[list[NameCandidate]] = [[] for _ in range(len(centroids))]
    for i in np.flatnonzero(significant):
        id = ids[entity[i]]
        level = hypernym_depth(id, vocabulary.parents)
        if level >= rule.min_depth or id not in hypernyms:
            measures = (float(np.sqrt(ratio[i])), float(lift[i]), float(share[i]), level, float(certainty[i]))
            result[cls[i]].append(NameCandidate(id, vocabulary.names.get(id, id), *measures))
    return [_ordered(candidates, centroids[c], rule, vocabulary) for c, candidates in enumerate(result)]


def confidence(joint: Ints, members: Ints, base: Doubles) -> Doubles:
    """The chance that an entity describes its class: that of all pictures that would fall into the class at least 20 %, and at
    least twice its base rate, have it. Posterior of the share under a Beta prior at the base rate that weighs as much as
    PRIOR samples: f64[p], 0..1, from counts i64[p] and base rates f64[p]."""
    from scipy.special import betaincc  # a quarter of a second that only naming pays

    bound = np.clip(np.maximum(RIGHT_SHARE, RIGHT_LIFT * base), 0, 1)
    return np.asarray(betaincc(joint + PRIOR * base, np.maximum(members - joint + PRIOR * (1 - base), 1e-9), bound))


def _ordered(candidates: list[NameCandidate], centroid: Floats, rule: NamingRule, vocabulary: Vocabulary) -> list[NameCandidate]:
    """Best first, without hypernyms that only repeat an entity before them. Of equals first the more specific, then the one
    whose text is closer to the centroid."""
    if vocabulary.texts:
        candidates = _with_text(candidates, centroid, rule, vocabulary)
    chosen: list[NameCandidate] = []
    repeated: dict[str, set[float]] = {}
    for candidate in sorted(candidates, key=lambda entity: (-entity.score, -entity.depth, -entity.closeness, entity.id)):
        if candidate.share in repeated.get(candidate.id, ()):
            continue
        chosen.append(candidate)
        for above in ancestry(candidate.id, vocabulary.parents, rule.levels):
            repeated.setdefault(above, set()).add(candidate.share)
    return chosen[: rule.max_entities]


def _with_text(
    candidates: list[NameCandidate], centroid: Floats, rule: NamingRule, vocabulary: Vocabulary
) -> list[NameCandidate]:
    """The candidates with their closeness, whose standardised value is weighed into the score; those without a text count as
    average."""
    texts = vocabulary.texts
    cosines = {entity.id: float(texts[entity.id] @ centroid) for entity in candidates if entity.id in texts}
    if not cosines:
        return candidates
    middle, spread = float(np.mean(list(cosines.values()))), float(np.std(list(cosines.values())))
    weight = rule.text_weight / spread if spread else 0.0
    closeness = [cosines.get(entity.id, middle) for entity in candidates]
    return [replace(entity, score=entity.score + weight * (cosine - middle), closeness=cosine)
            for entity, cosine in zip(candidates, closeness, strict=True)]
