"""Which sense of a mention the image speaks for, and how strongly (MOFI, Wu et al. 2024: link, keep what CLIP sees).

A sense's score is 0.5 z + 0.6 log prior + 2 depictability; the best sense's own z then decides whether it is confirmed. z is
the cosine of image and entity text, less its mean over background images of the same run, over their standard deviation:
raw cosines differ more between texts than between right and wrong images. Image similarity alone reads a small model's
whims into rare senses, priors alone read "mouse" as the animal on every desk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.entities.table import EntityTable, Texts
from pipeline.vectors import Floats

IMAGE_WEIGHT = 0.5
PRIOR_WEIGHT = 0.6
DOMAIN_WEIGHT = 2.0

_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class Mentions:
    """Mentions of several captions, parallel: the columns of schemas MENTION, and the row of each one's image."""

    aliases: Sequence[str]
    texts: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]
    images: NDArray[np.int64]


@dataclass(frozen=True)
class Links:
    """The chosen sense of each mention that has one; parallel arrays, in the order of the mentions."""

    mentions: NDArray[np.int64]
    entities: NDArray[np.int32]
    scores: Floats
    z: Floats


def mentions_of(column: pa.Array | pa.ChunkedArray, valid: NDArray[np.bool_]) -> Mentions:
    """The mentions in the rows of a `mentions` column that are `valid`, bool[rows]; `images` are rows of the column."""
    rows = [row if ok else None for row, ok in zip(column.to_pylist(), valid, strict=True)]
    mentions = [mention for row in rows for mention in row or ()]
    alias, text, start, end = ([mention[part] for mention in mentions] for part in ("alias", "text", "start", "end"))
    images = np.repeat(np.arange(len(rows)), [len(row or ()) for row in rows])
    return Mentions(alias, text, start, end, images.astype(np.int64))


def candidate_senses(table: EntityTable, mentions: Mentions) -> list[list[int]]:
    """Positions in the table of the senses that each mention may have, whatever its image shows."""
    return [table.senses.of(alias, text) for alias, text in zip(mentions.aliases, mentions.texts, strict=True)]


def link(
    table: EntityTable, mentions: Mentions, embeddings: NDArray[np.float16], candidates: Sequence[Sequence[int]] | None = None
) -> Links:
    """Chooses a sense for each mention; ties go to the first sense. `embeddings`: float16 [rows, d], unit rows. `candidates`: the
    `candidate_senses` of these mentions, where the caller has them."""
    senses_of_mentions = candidate_senses(table, mentions) if candidates is None else candidates
    counts = np.array([len(senses) for senses in senses_of_mentions], np.int64)
    linked = np.flatnonzero(counts)
    if not len(linked):
        return Links(linked, np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    senses = np.array([sense for group in senses_of_mentions for sense in group], np.int64)
    entities = table.senses.entities[senses]
    images = np.repeat(mentions.images, counts)
    score = (
        IMAGE_WEIGHT * standardised(table.choosing, entities, embeddings, images)
        + PRIOR_WEIGHT * table.senses.log_priors[senses]
        + DOMAIN_WEIGHT * table.depictability[entities]
    ).astype(np.float32)
    best = first_of_best(score, counts[linked])
    z = standardised(table.confirming, entities[best], embeddings, images[best])
    return Links(linked, entities[best], score[best], z)


def first_of_best(score: Floats, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions i64[groups] of the first highest score in each of the consecutive groups. `score`: f32[n]; `counts`: i64[groups],
    the sizes of the groups, none of them 0."""
    group = np.repeat(np.arange(len(counts)), counts)
    order: NDArray[np.int64] = np.lexsort((np.arange(len(score)), -score, group))
    first: NDArray[np.int64] = order[np.concatenate([[0], np.cumsum(counts)[:-1]])]
    return first


def standardised(
    texts: Texts, entities: NDArray[np.int32], embeddings: NDArray[np.float16], images: NDArray[np.int64]
) -> Floats:
    """z of each pair (entity, image row), f32[p]: the cosine less its mean over background images, over their standard deviation.
    `entities`: i32[p]; `images`: i64[p], rows of `embeddings`, float16 [rows, d]."""
    out = np.empty(len(entities), np.float32)
    for start in range(0, len(entities), _PAIRS_AT_ONCE):
        rows = slice(start, start + _PAIRS_AT_ONCE)
        text_vectors = texts.embeddings[entities[rows]].astype(np.float32)
        image_vectors = embeddings[images[rows]].astype(np.float32)
        out[rows] = (text_vectors * image_vectors).sum(axis=1)
    return (out - texts.mean[entities]) / texts.std[entities]


def confirmed_counts(rows: Sequence[Sequence[Mapping[str, Any]] | None]) -> pa.Array:
    """How many distinct entities of each sample are confirmed, int32; null where nothing was linked."""
    counts = [None if row is None else len({entity["id"] for entity in row if entity["confirmed"]}) for row in rows]
    return pa.array(counts, pa.int32())
