"""What a partition says of its rows, for each group of shards: whether an earlier row has the same key, and how many distinct
others a key has. Rows come as `key_rows` makes them; memory is bounded by the distinct keys of a partition and by ROUND_ROWS,
however many rows a single key has."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.draws import draws
from pipeline.shuffle.keys import Keys, distinct, first_of_key, found, key_order, keys_of, merged, partition_of, table_of
from pipeline.shuffle.parts import Parts
from pipeline.vectors import Bools, Ints

KEY, OTHER = ("key_high", "key_low"), ("other_high", "other_low")
CHUNK_ROWS = 1 << 20
"""Rows that are looked at together."""
ROUND_ROWS = 1 << 22
"""Rows whose pairs are held at a time; a partition with more is gone through as often as it takes."""
DIGIT = 4
"""Bits by which a range of keys that is too large is cut."""


def key_rows(rows: Ints, keys: Keys, others: Keys | None = None) -> pa.Table:
    """Rows of a group on their way to the partitions: the row in its group, i64 [n], its key and its other key."""
    columns = {"row": pa.array(rows, pa.int32()), **table_of(keys, KEY)}
    return pa.table(columns if others is None else {**columns, **table_of(others, OTHER)})


@dataclass(frozen=True)
class Repeats:
    """For each group, the rows of which an earlier row of the run has the key: `row`, int32, ascending."""

    def __call__(self, parts: Parts) -> Iterator[pa.Table]:
        seen = np.zeros((0, 2), np.uint64)
        for tables in parts.chunks(CHUNK_ROWS):
            keys = keys_of(pa.concat_tables(tables), KEY)
            repeated, seen = repeats(keys, seen)
            start = 0
            for table in tables:
                of_group = pa.array(repeated[start : start + table.num_rows])
                yield table.select(["row"]).filter(of_group)
                start += table.num_rows


def repeats(keys: Keys, seen: Keys) -> tuple[Bools, Keys]:
    """bool [n]: whether a key is among those `seen` (distinct, in order) or that of an earlier row; and all that are seen now."""
    order = key_order(keys)
    first = first_of_key(keys[order])
    once = keys[order[first]]
    repeated = np.ones(len(keys), bool)
    repeated[order[first]] = found(once, seen)[0]
    return repeated, merged(seen, once)


@dataclass(frozen=True)
class DistinctOthers:
    """For each group, `row` int32 and `count` int32: how many distinct others the row's key has in the run."""

    def __call__(self, parts: Parts) -> Iterator[pa.Table]:
        keys, rows = np.zeros((0, 2), np.uint64), 0
        for tables in parts.chunks(CHUNK_ROWS):
            chunk = keys_of(pa.concat_tables(tables), KEY)
            keys, rows = merged(keys, distinct(chunk)), rows + len(chunk)
        counts = np.zeros(len(keys), np.int64)
        rounds = -(-rows // ROUND_ROWS)
        for number in range(rounds):
            counts += self._counts(parts, keys, number, rounds)
        for table in parts:
            _, place = found(keys_of(table, KEY), keys)
            yield pa.table({"row": table.column("row"), "count": counts[place].astype(np.int32)})

    def _counts(self, parts: Parts, keys: Keys, number: int, rounds: int) -> Ints:
        """Distinct others of each key, of those others that are in this part of all."""
        pairs, places = [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.int64)]
        for tables in parts.chunks(CHUNK_ROWS):
            chunk = pa.concat_tables(tables)
            others = keys_of(chunk, OTHER)
            in_turn = partition_of(others, rounds) == number
            _, place = found(keys_of(chunk, KEY)[in_turn], keys)
            pair, place = _once(_pairs(others[in_turn], place), place)
            pairs.append(pair)
            places.append(place)
        return np.bincount(_once(np.concatenate(pairs), np.concatenate(places))[1], minlength=len(keys))


@dataclass(frozen=True)
class Ordered:
    """All keys of the partition, in order, a repeated one as often as it is there. A range of keys that is more than ROUND_ROWS is
    gone through again and in smaller ranges."""

    def __call__(self, parts: Parts) -> Iterator[pa.Table]:
        yield pa.table(table_of(np.zeros((0, 2), np.uint64), KEY))   # so that there is one
        for keys in in_order(lambda: (keys_of(pa.concat_tables(tables), KEY) for tables in parts.chunks(CHUNK_ROWS))):
            yield pa.table(table_of(keys, KEY))


def in_order(pieces: Callable[[], Iterable[Keys]], prefix: int = 0, bits: int = 0) -> Iterator[Keys]:
    """The keys of all pieces (anew with each call) whose first bits are these, in order."""
    held, count = list[Keys](), 0
    for piece in pieces():
        held.append(begun(piece, prefix, bits))
        count += len(held[-1])
        if count > ROUND_ROWS:
            break
    else:
        if held:
            keys = np.concatenate(held)
            yield keys[key_order(keys)]
        return
    held.clear()
    if bits == 128:   # one key, more often than can be held
        yield from (begun(piece, prefix, bits) for piece in pieces())
        return
    half, shift = bits // 64, np.uint64(64 - DIGIT - bits % 64)
    digits = (begun(piece, prefix, bits)[:, half] >> shift & np.uint64((1 << DIGIT) - 1) for piece in pieces())
    counts = sum((np.bincount(some.astype(np.int64), minlength=1 << DIGIT) for some in digits), np.zeros(1 << DIGIT, np.int64))
    for digit in np.flatnonzero(counts).tolist():
        yield from in_order(pieces, (prefix << DIGIT) | digit, bits + DIGIT)


def begun(keys: Keys, prefix: int, bits: int) -> Keys:
    """Those keys whose first bits, a multiple of DIGIT, are these."""
    high_bits = min(bits, 64)
    chosen = np.ones(len(keys), bool)
    if high_bits:
        chosen &= keys[:, 0] >> np.uint64(64 - high_bits) == np.uint64(prefix >> (bits - high_bits))
    if bits > 64:
        chosen &= keys[:, 1] >> np.uint64(128 - bits) == np.uint64(prefix & ((1 << (bits - 64)) - 1))
    return keys[chosen]


def _pairs(others: Keys, place: Ints) -> Keys:
    """A key for each pair of another's key and a place: the other's, changed by 128 bits that are random but for the place."""
    return others ^ np.stack([draws(place, 0, 0), draws(place, 0, 1)], axis=1)


def _once(pairs: Keys, places: Ints) -> tuple[Keys, Ints]:
    order = key_order(pairs)
    order = order[first_of_key(pairs[order])]
    return pairs[order], places[order]
