"""How good classes are, measured on the sample: agreement with its folders, and names judged on a held-out half.

Shared by the tests, the benchmark and the figures of the README. Reads ground truth, so nothing in pipeline/ may import it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score

from pipeline.captions.normal import normalised
from pipeline.draws import sampled
from pipeline.entities import calibration as entities
from pipeline.entities.aliases import build
from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.entities.linking import link, mentions_of
from pipeline.passes.entities import mentioned_aliases
from pipeline.reduce.describe.lift import RIGHT_LIFT, RIGHT_SHARE, NamingRule, Vocabulary, distinctive_entities
from pipeline.reduce.describe.presence import Presence, class_counts, presence
from pipeline.reduce.kmeans.in_memory import fit
from pipeline.search.nearest import nearest
from pipeline.stages.mentions import alias_mentions
from pipeline.vectors import unit
from schemas.columns import MENTIONS


def folder_agreement(x: NDArray[np.floating], folders: Sequence[str], k: int, seed: int) -> float:
    """Adjusted mutual information of k clusters of the rows with the top folders of their source pictures."""
    return float(adjusted_mutual_info_score(list(folders), fit(x, k, seed=seed).assignment))


def raw_pixels(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The baseline without a model: thumbnails less the mean thumbnail (the best of three ways tried), unit length."""
    wide = thumbnails.astype(np.float32)
    return unit(wide - wide.mean(axis=0))


@dataclass(frozen=True)
class NameQuality:
    """Names learnt on one half, judged on the other. A name is right for a class when at least 20 % of its held-out members
    have the entity (or one up to four levels below) and that is at least twice the share in the held-out half."""

    precision: float
    """Right among the names given, at most 8 per class, mean over the classes that have one."""
    precision_first: float
    """Right among the first names."""
    coverage: float
    """Classes that have a name."""
    confidence: float
    """Mean of what the first names say of themselves; honest where it is near `precision_first`."""


def linked_entities(
    captions: Sequence[str], embeddings: NDArray[np.float32], encode: Callable[[Sequence[str]], NDArray[np.float32]], seed: int
) -> tuple[Vocabulary, list[list[str]], list[list[str]]]:
    """Names and hypernyms of the bundled knowledge base; per pair the entities linked to its caption, and those confirmed."""
    base = KnowledgeBase.load()
    index = build(base)
    column = pa.array([alias_mentions(index, normalised(caption)) for caption in captions], MENTIONS.field("mentions").type)
    everywhere, vectors = np.ones(len(captions), bool), embeddings.astype(np.float16)
    background = vectors[sampled(np.flatnonzero(everywhere), 128, seed)]
    mentions = mentions_of(column, everywhere)
    table = entities.entity_table(base, index, mentioned_aliases(pa.chunked_array([column])), encode, background)
    table = entities.with_threshold(table, mentions, vectors, entities.Settings(seed=seed))
    links = link(table, mentions, vectors)
    linked: list[set[str]] = [set() for _ in captions]
    confirmed: list[set[str]] = [set() for _ in captions]
    for mention, entity, z in zip(links.mentions, links.entities, links.z, strict=True):
        linked[mentions.images[mention]].add(table.ids[entity])
        if z >= table.threshold:
            confirmed[mentions.images[mention]].add(table.ids[entity])
    names = {id: base.name(row) for row, id in enumerate(base.ids)}
    vocabulary = Vocabulary(dict(zip(base.ids, base.hypernyms, strict=True)), names)
    return vocabulary, [sorted(ids) for ids in linked], [sorted(ids) for ids in confirmed]


def name_quality(
    x: NDArray[np.floating], found_entities: Sequence[Sequence[str]], vocabulary: Vocabulary, *, k: int, seed: int,
    rule: NamingRule = NamingRule(),  # noqa: B008 (frozen)
) -> NameQuality:
    """Clusters and names from a seeded half of the rows, judged on the other half (whose rows go to the nearest centroid)."""
    learn = np.sort(np.random.default_rng(seed).permutation(len(x))[: len(x) // 2])
    judge = np.setdiff1d(np.arange(len(x)), learn)
    centroids = fit(x[learn], k, seed=seed).centroids
    assignment = nearest(unit(x), centroids, 1)[0][:, 0]
    found = presence(found_entities, vocabulary.parents, rule.levels)
    names = distinctive_entities(class_counts(_part(found, learn), assignment[learn], k), centroids, rule, vocabulary)
    held_out = _part(found, judge)
    has = np.zeros((len(judge), len(found.ids)), bool)
    has[held_out.sample, held_out.entity] = True
    base = has.mean(axis=0)
    right = []
    for c, candidates in enumerate(names):
        members = has[assignment[judge] == c]
        column = [found.ids.index(one.id) for one in candidates]
        share = members[:, column].mean(axis=0) if len(members) else np.zeros(len(column))
        right.append((share >= RIGHT_SHARE) & (share >= RIGHT_LIFT * base[column]))
    named = [one for one in right if len(one)]
    if not named:
        return NameQuality(0.0, 0.0, 0.0, 0.0)
    return NameQuality(
        float(np.mean([one.mean() for one in named])), float(np.mean([one[0] for one in named])), len(named) / len(right),
        float(np.mean([some[0].confidence for some in names if some])),
    )


def _part(found: Presence, rows: NDArray[np.int64]) -> Presence:
    place = np.full(found.samples, -1)
    place[rows] = np.arange(len(rows))
    kept = place[found.sample] >= 0
    return Presence(len(rows), found.ids, place[found.sample[kept]], found.entity[kept], found.hypernyms)
