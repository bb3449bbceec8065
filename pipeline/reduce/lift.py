"""Entities that stand out among the samples of a class.

Standing out is Dunning's log-likelihood ratio G2 (1993) of "has the entity" against "is in the class", positive side only;
an entity counts as present where a sample has it or one a few levels below it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.nearest import Floats

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]

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
class Presence:
    """Which sample has which entity, hypernyms included: distinct (sample, entity) pairs."""

    samples: int
    ids: tuple[str, ...]
    sample: Ints
    entity: Ints
    """Position in `ids`."""
    hypernyms: frozenset[str]
    """Those that stand above some sample's own entity."""


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
    closeness: float = 0.0
    """Cosine of the centroid and the entity's text; 0 without texts."""


def presence(entities: Sequence[Iterable[str]], parents: Mapping[str, Sequence[str]], levels: int) -> Presence:
    """Each sample's entities and everything up to `levels` above them."""
    numbers: dict[str, int] = {}
    above: dict[str, tuple[int, ...]] = {}
    hypernyms: set[str] = set()
    sample: list[int] = []
    entity: list[int] = []
    for row, found in enumerate(entities):
        present: set[int] = set()
        for id in found:
            if id not in above:
                line = ancestry(id, parents, levels)
                above[id] = tuple(numbers.setdefault(one, len(numbers)) for one in line)
                hypernyms.update(line[1:])
            present.update(above[id])
        sample += [row] * len(present)
        entity += sorted(present)
    rows, columns = np.array(sample, np.int64), np.array(entity, np.int64)
    return Presence(len(entities), tuple(numbers), rows, columns, frozenset(hypernyms))


def ancestry(id: str, parents: Mapping[str, Sequence[str]], levels: int) -> list[str]:
    """The entity and what is up to `levels` above it, nearest first, each once."""
    seen, edge = {id: None}, [id]
    for _ in range(levels):
        edge = [up for one in edge for up in parents.get(one, ()) if up not in seen]
        seen.update(dict.fromkeys(edge))
    return list(seen)


def log_likelihood_ratio(both: Ints, entity: Ints, members: Ints, total: int) -> Reals:
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


def standing_out(
    found: Presence, assignment: NDArray[np.int32], centroids: Floats, rule: NamingRule, vocabulary: Vocabulary
) -> list[list[Candidate]]:
    """For each class its entities, best first (equal scores by id); an empty list where none is significant."""
    k, kinds = len(centroids), len(found.ids)
    members = np.bincount(assignment, minlength=k)
    overall = np.bincount(found.entity, minlength=kinds)
    cell, both = np.unique(assignment[found.sample].astype(np.int64) * kinds + found.entity, return_counts=True)
    cls, entity = np.divmod(cell, max(kinds, 1))
    ratio = log_likelihood_ratio(both, overall[entity], members[cls], found.samples)
    share = both / members[cls]
    lift = share / (overall[entity] / max(found.samples, 1))
    good = (ratio >= rule.significance) & (both >= rule.least_members)
    good &= (share >= rule.least_share) & (lift >= rule.least_lift)
    result: list[list[Candidate]] = [[] for _ in range(k)]
    for i in np.flatnonzero(good):
        id = found.ids[entity[i]]
        level = depth(id, vocabulary.parents)
        if level >= rule.least_depth or id not in found.hypernyms:
            name = vocabulary.names.get(id, id)
            result[cls[i]].append(Candidate(id, name, float(np.sqrt(ratio[i])), float(lift[i]), float(share[i]), level))
    return [_ordered(candidates, centroids[c], rule, vocabulary) for c, candidates in enumerate(result)]


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
