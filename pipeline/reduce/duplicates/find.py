"""Exact and near duplicates of a run: pairs, and which rows they remove.

Exact: the same image bytes (and the same uid where the caption is the same too). Near: see `lookalikes.py`. The preferred
row of a pair has more pixels, or else the smaller row id. Greedy in that order: a row goes only when a row that *stays* is
its duplicate, so chains of look-alikes don't collapse (in SemDeDup's published rule they do). Crops and mirrored copies have
other hashes, so they are not listed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.reduce import RowIds
from pipeline.reduce.duplicates.lookalikes import DuplicatePairs, LookalikeRule, greedy, no_pairs, varied
from pipeline.vectors import Bools, Bytes, Ints, unit
from schemas.tables import DUPLICATES

COSINES = 16384   # pairs measured at a time


@dataclass(frozen=True)
class Pictures:
    """What is compared, one entry per row of the run, in row-id order."""

    uid: pa.Array
    """large_string[n]"""
    sha256: pa.Array
    """large_string[n]"""
    phash: NDArray[np.uint64]
    """uint64[n]: perceptual hashes."""
    thumbnail: Bytes
    """uint8[n, 768]"""
    pixels: Ints
    """i64[n]: width times height."""
    valid: Bools
    """bool[n]: rows whose hashes are all there; the others are nobody's duplicate."""
    embedding: Callable[[Ints], NDArray[np.float16]] | None = None
    """f16[m, d] of the rows i64[m], ascending; zero where there is none. Only to report the cosine of each pair."""


@dataclass(frozen=True)
class Duplicates:
    """The pairs, by row id, and the rows that go.

    An exact duplicate is listed once, with the preferred row of its group, so m equal rows make m - 1 pairs. Near pairs
    are between those preferred rows, and rows of equal hash and thumbnail are listed once in the same way.
    """

    exact_pairs: DuplicatePairs
    near_pairs: DuplicatePairs
    exact: Bools
    """bool[n]: a preferred row has the same bytes."""
    near: Bools
    """bool[n]: of the rows that `exact` leaves, those that look like a preferred row that stays."""


def find_duplicates(pictures: Pictures, *, radius: int = 8, correlation: float = 0.97, near: bool = True) -> Duplicates:
    """All duplicates of a run. Near are those of which at most `radius` of 64 bits of the hashes differ, and whose thumbnails have
    at least this Pearson correlation; without `near` none is."""
    order = _preferred_first(pictures)
    exact = _stars(order, _numbered(pictures.sha256)[order])
    if not near:
        removed = np.zeros(len(pictures.valid), bool)
        removed[exact.row] = True
        return Duplicates(_by_row(exact), no_pairs(), removed, np.zeros_like(removed))
    order = _without(order, exact)
    looks = order[varied(pictures.thumbnail[order])]
    equal_looks = _stars(looks, _look_numbers(pictures, looks))
    looks = _without(looks, equal_looks)
    alike, gone = greedy(pictures.phash[looks], pictures.thumbnail[looks], LookalikeRule(radius, correlation))
    alike = replace(alike, row=looks[alike.row], of=looks[alike.of])
    equal_looks = _retargeted(equal_looks, alike.where(alike.removed))
    masks = np.zeros((2, len(pictures.valid)), bool)
    masks[0, exact.row] = masks[1, equal_looks.row] = masks[1, looks[gone]] = True
    return Duplicates(_by_row(exact), _by_row(DuplicatePairs.joined([equal_looks, alike])), masks[0], masks[1])


def _preferred_first(pictures: Pictures) -> Ints:
    """The valid rows, most pixels first, then by row id."""
    rows = np.flatnonzero(pictures.valid)
    return rows[np.argsort(-pictures.pixels[rows], kind="stable")]


def _numbered(values: pa.Array) -> Ints:
    """i64[n]: equal numbers for equal strings; -1 for null."""
    return np.asarray(values.dictionary_encode().indices.fill_null(-1), np.int64)


def _look_numbers(pictures: Pictures, rows: Ints) -> Ints:
    """i64[m]: equal numbers for rows of equal perceptual hash and thumbnail."""
    if not len(rows):
        return rows
    hashes = np.ascontiguousarray(pictures.phash[rows]).view(np.uint8).reshape(-1, 8)
    look = np.concatenate([hashes, pictures.thumbnail[rows]], axis=1)
    return np.unique(look.view(np.dtype((np.void, look.shape[1])))[:, 0], return_inverse=True)[1]


def _stars(order: Ints, group: Ints) -> DuplicatePairs:
    """A pair with the first row of its group for every other row. Memory grows with the rows, whatever the groups' sizes."""
    by_group = np.argsort(group, kind="stable")
    rows, group = order[by_group], group[by_group]
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if len(rows) else np.empty(0, np.int64)
    sizes = np.diff(np.append(first, len(rows)))
    of = np.repeat(rows[first], sizes)
    repeats = rows != of
    n = int(repeats.sum())
    return DuplicatePairs(rows[repeats], of[repeats], np.zeros(n, np.int32), np.ones(n, np.float32), np.ones(n, bool))


def _without(order: Ints, pairs: DuplicatePairs) -> Ints:
    return order[~np.isin(order, pairs.row)]


def _retargeted(equal_looks: DuplicatePairs, removing: DuplicatePairs) -> DuplicatePairs:
    """Rows that look exactly like one that went: paired with what made that one go, at the same distance."""
    went, first = np.unique(removing.row, return_index=True)
    moved = np.isin(equal_looks.of, went)
    cause = removing.where(first[np.searchsorted(went, equal_looks.of[moved])])
    staying = equal_looks.where(~moved)
    return DuplicatePairs.joined([staying, replace(cause, row=equal_looks.row[moved])])


def _by_row(pairs: DuplicatePairs) -> DuplicatePairs:
    return pairs.where(np.lexsort((pairs.of, pairs.row)))


def duplicate_table(duplicates: Duplicates, pictures: Pictures, rows: RowIds) -> pa.Table:
    """The pairs as a table, schemas.tables.DUPLICATES, by row id. Beside `find_duplicates`, reads uid and embeddings of the rows in
    pairs only."""
    pairs = DuplicatePairs.joined([duplicates.exact_pairs, duplicates.near_pairs])
    order = np.lexsort((pairs.of, pairs.row))
    pairs, near = pairs.where(order), (order >= len(duplicates.exact_pairs))
    uid = pictures.uid.take(pa.array(pairs.row)).cast(pa.string())
    same_uid = pc.equal(uid, pictures.uid.take(pa.array(pairs.of)).cast(pa.string()))
    shard_ids, local = rows.ids(pairs.row)
    of_shard_ids, of_local = rows.ids(pairs.of)
    return pa.Table.from_arrays([
        pa.array(shard_ids, pa.string()), pa.array(local), uid, pa.array(of_shard_ids, pa.string()), pa.array(of_local),
        pc.if_else(pa.array(near), "near", pc.if_else(same_uid, "uid", "sha256")),
        pa.array(pairs.hamming), pa.array(pairs.correlation), _cosines(pictures.embedding, pairs), pa.array(pairs.removed),
    ], schema=DUPLICATES)


def _cosines(embedding: Callable[[Ints], NDArray[np.float16]] | None, pairs: DuplicatePairs) -> pa.Array:
    """float32[pairs]: the cosine of the two embeddings; null where either row has none."""
    if embedding is None:
        return pa.nulls(len(pairs), pa.float32())
    values = np.empty(len(pairs), np.float32)
    absent = np.empty(len(pairs), bool)
    for at in range(0, len(pairs), COSINES):
        part = slice(at, at + COSINES)
        rows, place = np.unique(np.concatenate([pairs.row[part], pairs.of[part]]), return_inverse=True)
        first, second = np.split(unit(embedding(rows))[place], 2)
        values[part] = (first.astype(np.float64) * second).sum(axis=1)
        absent[part] = ~(first.any(axis=1) & second.any(axis=1))
    return pa.array(values, mask=absent)
