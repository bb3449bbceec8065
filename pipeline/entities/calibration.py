"""Calibration of entity linking from the run itself, and the cut of rare entities. Pure functions.

Nothing is taken from elsewhere: z is standardised against images of this run, and the threshold is a quantile of z over this
run's shuffled pairs (mentions with another sample's image), so that a stated share of wrong pairs would be confirmed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.entities.aliases import AliasIndex
from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.entities.known_texts import Known, Vectors, none_known
from pipeline.entities.linking import Mentions, candidate_senses, link
from pipeline.entities.table import EntityTable, Senses, Texts
from pipeline.vectors import Floats

Encode = Callable[[Sequence[str]], Floats]
"""Texts -> float32 [texts, d], unit rows."""

GLOSS_CHARACTERS = 60
"""How much of a description goes into the text: small text towers read about 30 tokens, and the start says most."""

SHUFFLES = 8
"""Derangements that the null is pooled over: one alone moves the 5 % threshold of a small run by a tenth."""

EXPECTED_EXCEEDANCES = 10
"""Shuffled mentions beyond the quantile that a quantile needs; with fewer in the run, z is taken as normal."""

SUMS = pa.schema([
    pa.field("id", pa.string()), pa.field("name", pa.string()), pa.field("count", pa.int64()), pa.field("z", pa.float64())])

_TEXTS_AT_ONCE = 4096
_SMALLEST_STD = 1e-4


@dataclass(frozen=True)
class Settings:
    """What calibration depends on."""

    false_positive_rate: float = 0.05
    """share of the mentions of shuffled pairs that may be confirmed"""
    background: int = 128
    """images that cosines are standardised against"""
    seed: int = 0


def deranged(count: int, seed: int) -> NDArray[np.int64]:
    """A seeded permutation i64[count] without a fixed point (one cycle); of one element, the identity."""
    order = np.random.default_rng(seed).permutation(count)
    out = np.empty(count, np.int64)
    out[order] = np.roll(order, 1)
    return out


def senses_of(index: AliasIndex, aliases: Sequence[str]) -> tuple[Senses, NDArray[np.int64]]:
    """The senses of the aliases, sorted by alias, and the knowledge base's rows of the entities they mean: i64[entities],
    ascending."""
    pairs = [(alias, sense) for alias in sorted(set(aliases)) for sense in index.senses.get(alias, ())]
    rows = np.unique(np.array([sense.row for _, sense in pairs], np.int64))
    entities = np.searchsorted(rows, [sense.row for _, sense in pairs]).astype(np.int32)
    priors = np.array([sense.log_prior for _, sense in pairs], np.float32)
    written = np.array([sense.written for _, sense in pairs], np.int8)
    return Senses(tuple(alias for alias, _ in pairs), entities, priors, written), rows


def choosing_text(base: KnowledgeBase, row: int) -> str:
    """What tells senses apart: "name, start of the description, synonyms, hypernym"."""
    name, *synonyms = base.lemmas[row]
    above = [base.name(base.row_of[id]) for id in base.hypernyms[row][:1] if id in base.row_of]
    return ", ".join([name, base.glosses[row][:GLOSS_CHARACTERS].strip(), *synonyms[:3], *above])


def entity_table(   # noqa: PLR0913
    base: KnowledgeBase, index: AliasIndex, aliases: Sequence[str], encode: Encode, background: NDArray[np.float16],
    known: Known = none_known,
) -> EntityTable:
    """The entities that the aliases may mean, embedded and standardised against background images (float16 [images, d]). What is
    `known` is not embedded again.

    It confirms nothing until `with_threshold` has set the threshold.
    """
    senses, rows = senses_of(index, aliases)
    ids = tuple(base.ids[row] for row in rows)
    choosing, confirming = _vectors(base, rows, encode, list(known(ids)))
    return EntityTable(
        ids=ids,
        names=tuple(base.name(row) for row in rows),
        descriptions=tuple(base.glosses[row] for row in rows),
        depictability=np.array([base.depictability(row) for row in rows], np.float32),
        senses=senses,
        choosing=_texts(choosing, background),
        confirming=_texts(confirming, background),
        threshold=float("inf"),
    )


def _vectors(
    base: KnowledgeBase, rows: NDArray[np.int64], encode: Encode, known: Sequence[Vectors]
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """The vectors for choosing and for confirming, float16 [rows, d], of these rows of the knowledge base; of those that are known,
    as they are."""
    places = np.setdiff1d(np.arange(len(rows)), np.concatenate([np.zeros(0, np.int64), *(part.places for part in known)]))
    texts = [*(choosing_text(base, row) for row in rows[places]), *(base.name(row) for row in rows[places])]
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}   # entities share names
    vectors = encode(list(number))[[number[text] for text in texts]]   # in one call: workers open the model once
    chosen, named = vectors[: len(places)], vectors[len(places) :]
    confirmed = chosen + named
    confirmed /= np.linalg.norm(confirmed, axis=1, keepdims=True)
    parts = [Vectors(places, chosen.astype(np.float16), confirmed.astype(np.float16)), *known]
    order = np.argsort(np.concatenate([part.places for part in parts]))
    return np.concatenate([part.choosing for part in parts])[order], np.concatenate([part.confirming for part in parts])[order]


def _texts(stored: NDArray[np.float16], background: NDArray[np.float16]) -> Texts:
    """Embeddings with mean and deviation of their cosines to the background images."""
    if not len(background):   # no image of the run can be read: nothing will be linked
        return Texts(stored, np.zeros(len(stored), np.float32), np.ones(len(stored), np.float32))
    means, deviations = np.empty(len(stored), np.float32), np.empty(len(stored), np.float32)
    images = background.astype(np.float64).T
    for start in range(0, len(stored), _TEXTS_AT_ONCE):
        part = slice(start, start + _TEXTS_AT_ONCE)
        # Products of float16 are multiples of 2^-48, and sums over unit vectors stay below 2: float64 adds them without rounding,
        # in any order, so the bits do not depend on how many threads multiply.
        cosines = (stored[part].astype(np.float64) @ images).astype(np.float32)
        means[part], deviations[part] = cosines.mean(axis=1), cosines.std(axis=1)
    return Texts(stored, means, np.maximum(deviations, _SMALLEST_STD))


def shuffled_z(table: EntityTable, mentions: Mentions, embeddings: NDArray[np.float16], seed: int) -> Floats:
    """z, f32, of the senses that are chosen when each sample's mentions get another sample's image: SHUFFLES seeded derangements
    one after another. `embeddings`: float16 [rows, d], unit rows; empty where fewer than two images have mentions."""
    images = np.unique(mentions.images)
    if len(images) < 2:
        return np.zeros(0, np.float32)
    place = np.searchsorted(images, mentions.images)
    derangements = [images[deranged(len(images), seed + i)][place] for i in range(SHUFFLES)]
    candidates = candidate_senses(table, mentions)
    return np.concatenate([link(table, replace(mentions, images=rows), embeddings, candidates).z for rows in derangements])


def with_threshold(
    table: EntityTable, mentions: Mentions, embeddings: NDArray[np.float16], settings: Settings
) -> EntityTable:
    """The table with the (1 - false_positive_rate) quantile of z over shuffled pairs as its threshold.

    The shuffled pairs are linked as the stage links them, so that what the choice of a sense adds to z is in the null. A
    quantile needs EXPECTED_EXCEEDANCES values beyond it; with fewer, z is taken as normal, and `facts` say so.
    """
    null = shuffled_z(table, mentions, embeddings, settings.seed)
    enough = len(null) * settings.false_positive_rate >= EXPECTED_EXCEEDANCES
    quantile = 1.0 - settings.false_positive_rate
    threshold = float(np.quantile(null, quantile)) if enough else NormalDist().inv_cdf(quantile)
    facts = {
        **asdict(settings), "null": "shuffled pairs" if enough else "normal", "null_mentions": len(null),
        "samples": len(np.unique(mentions.images)), "entities": len(table.ids),
        "confirmed_share": float(np.mean(link(table, mentions, embeddings).z >= threshold)) if len(null) else None,
    }
    return replace(table, threshold=threshold, facts=facts)


def entity_sums(columns: Iterable[pa.Array | pa.ChunkedArray]) -> pa.Table:
    """SUMS: samples in which each entity is confirmed, and the sum of their z, over the `entities` columns of some shards."""
    counts: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    names: dict[str, str] = {}
    for column in columns:
        for row in column.to_pylist():
            best = {e["id"]: e for e in reversed(row or ()) if e["confirmed"]}
            for id, entity in best.items():
                counts[id] += 1
                sums[id] += entity["z"]
                names[id] = entity["name"]
    return pa.table([list(counts), [names[id] for id in counts], list(counts.values()), [sums[id] for id in counts]], schema=SUMS)


def entity_counts(parts: Iterable[pa.Table]) -> pa.Table:
    """Samples in which each entity is confirmed, and their mean z, from the SUMS of a run's parts; one part is held, and a row for
    each entity. Sorted by count, then id. Counts are of confirmed entities, so they come after the image has had its say."""
    total = SUMS.empty_table()
    for part in parts:
        both = pa.concat_tables([total, part]).combine_chunks()
        kinds = {"name": "max", "count": "sum", "z": "sum"}
        grouped = both.group_by("id", use_threads=False).aggregate(list(kinds.items()))   # adds up in order, so to the same bits
        total = grouped.select(["id", *(f"{name}_{kind}" for name, kind in kinds.items())]).rename_columns(SUMS.names).cast(SUMS)
    total = total.sort_by([("count", "descending"), ("id", "ascending")]).combine_chunks()
    mean = np.asarray(total.column("z")) / np.asarray(total.column("count"))
    return pa.table([total.column("id"), total.column("name"), total.column("count"), pa.array(mean.astype(np.float32))],
                    names=["id", "name", "count", "mean_z"])
