"""Keys of 128 bits, so that rows can be sorted and compared by two numbers whatever their text; two texts share one with a chance
of 2^-68 among a billion."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.draws import draws
from pipeline.vectors import Bools, Ints

Keys = NDArray[np.uint64]
"""uint64 [n, 2]: high and low 64 bits."""
Strings: TypeAlias = "pa.Array | pa.ChunkedArray"
DIGITS = 32
"""Of a key that is written in hexadecimal."""


def hex_keys(digits: Strings) -> Keys:
    """The first 32 digits of each text, [n]: a uid, or a SHA-256, which are uniform already. Nulls raise TypeError, text that is no
    such number ValueError."""
    joined = bytes.fromhex("".join([text[:DIGITS] for text in digits.to_pylist()]))
    if len(joined) != 16 * len(digits):
        raise ValueError("not all of these keys have 32 hexadecimal digits")
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def hash_keys(hashes: Strings) -> Keys:
    """Keys of hashes of 32 or 64 hexadecimal digits, [n]: all of their bits count, and numbers that were only counted up are spread
    over the partitions all the same. Nulls raise TypeError, text that is no such number ValueError."""
    joined = bytes.fromhex("".join(hashes.to_pylist()))
    if len(joined) not in (16 * len(hashes), 32 * len(hashes)):
        raise ValueError("not all of these hashes have 32 or 64 hexadecimal digits")
    words = np.frombuffer(joined, ">u8").astype(np.uint64)
    halves = np.zeros((2, len(hashes), 2), np.uint64)   # of 64 digits the last and the first 32; else the second are zero
    for half, part in enumerate(np.split(words.reshape(len(hashes), -1), [-2], axis=1)[::-1]) if len(hashes) else ():
        halves[half, :, : part.shape[1]] = part
    low = draws(halves[0, :, 1] ^ draws(halves[1, :, 1], 0, 0), 0, 1)
    high = draws(halves[0, :, 0] ^ draws(halves[1, :, 0], 0, 2) ^ low, 0, 3)   # of 32 digits one to one
    return np.stack([high, low], axis=1)


def text_keys(texts: Strings) -> Keys:
    """BLAKE2b of each text, [n]. Nulls raise AttributeError."""
    return bytes_keys(text.encode() for text in texts.to_pylist())


def bytes_keys(contents: Iterable[bytes]) -> Keys:
    """BLAKE2b of each of n byte strings."""
    joined = b"".join([blake2b(content, digest_size=16).digest() for content in contents])
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def table_of(keys: Keys, names: tuple[str, str]) -> dict[str, pa.Array]:
    """Keys as the two columns that travel."""
    return {name: pa.array(np.ascontiguousarray(keys[:, half])) for half, name in enumerate(names)}


def keys_of(table: pa.Table, names: tuple[str, str]) -> Keys:
    """The keys, [n], that two columns hold."""
    return np.stack([np.asarray(table.column(name)) for name in names], axis=1)


def partition_of(keys: Keys, partitions: int) -> Ints:
    """i64 [n]: which of so many equal ranges of all keys each is in, so that one partition's keys are all below the next one's."""
    return np.asarray(((keys[:, 0] >> np.uint64(32)) * np.uint64(partitions)) >> np.uint64(32), np.int64)


def key_order(keys: Keys) -> Ints:
    """i64 [n]: the rows in the order of their keys, equal keys in the order of their rows."""
    order = np.argsort(keys[:, 0], kind="stable")
    high = keys[order, 0]
    equal = np.flatnonzero(high[1:] == high[:-1])
    if not len(equal) or (keys[order[equal], 1] == keys[order[equal + 1], 1]).all():   # nearly always: one sort is enough
        return order
    return np.lexsort((keys[:, 1], keys[:, 0]))


def first_of_key(ordered: Keys) -> Bools:
    """bool [n]: whether a key, of keys in order, is not that of the row before."""
    first = np.ones(len(ordered), bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return first


def distinct(keys: Keys) -> Keys:
    """Each key once, in order."""
    ordered = keys[key_order(keys)]
    return ordered[first_of_key(ordered)]


def merged(among: Keys, others: Keys) -> Keys:
    """Each key of both once, in order; both are distinct and in order."""
    is_there, place = found(others, among)
    return np.insert(among, place[~is_there], others[~is_there], axis=0)


def found(keys: Keys, among: Keys) -> tuple[Bools, Ints]:
    """Whether each key, [n], is there `among` others (distinct and in order), and at which place: bool [n] and i64 [n]."""
    place = np.searchsorted(among[:, 0], keys[:, 0])
    equal_halves = np.searchsorted(among[:, 0], keys[:, 0], side="right") - place
    one = np.flatnonzero(equal_halves == 1)
    place[one] += among[place[one], 1] < keys[one, 1]
    for at in np.flatnonzero(equal_halves > 1).tolist():   # distinct keys with equal high halves: hardly any
        place[at] += np.searchsorted(among[place[at] : place[at] + equal_halves[at], 1], keys[at, 1])
    is_there = place < len(among)
    if len(among):
        is_there &= (among[np.minimum(place, len(among) - 1)] == keys).all(axis=1)
    return is_there, place
