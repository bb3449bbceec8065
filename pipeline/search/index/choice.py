"""Which index suits so many vectors, so much memory and such a wish for speed, and why.

The rates are rough and meant for choosing, not for promises: what a search really finds is measured on the finished index
(`recall.py`), and how fast it is depends on the machine.
"""

import math
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import InputError
from pipeline.quantities import size
from schemas.indexes import Kind

AUTO: Literal["auto"] = "auto"
FLAT: Literal["flat"] = "flat"
HNSW: Literal["hnsw"] = "hnsw"
IVF: Literal["ivf"] = "ivf"
IVF_SQ: Literal["ivfsq"] = "ivfsq"
IVF_PQ: Literal["ivfpq"] = "ivfpq"
SCANNED = 4e9
"""Bytes of vectors that one thread compares with a query in a second."""
PROBED = 32
"""Lists that a search looks into, about, before it is known."""
PER_LIST = 64
"""Vectors that an inverted file is trained on, for each of its lists; FAISS asks for 39 at least."""
LISTS_MOST = 1 << 18
LINKED_LISTS = 1 << 14
"""From so many lists on, a graph finds the nearest ones; fewer are compared with a query faster."""
LINKS = 32
"""Neighbours of a vertex in a graph (M): 2 M in its lowest layer, of 4 bytes each."""
HNSW_MOST = 2_000_000
"""A graph is made by one thread, for only so is it the same each time: of so many vectors it takes half an hour."""
ID_BYTES = 8
CODEC_ROWS = 1 << 14
"""Vectors that the codes are trained on: 64 for each value that a byte may have."""
RESIDENT = 1 << 29
"""Bytes that whoever makes a graph holds beside it."""


@dataclass(frozen=True)
class Wish:
    """What is asked of an index."""

    vectors: int
    dimension: int
    kind: Kind | Literal["auto"] = AUTO
    latency: float = 0.01
    """Seconds that a query may take on one thread, about."""
    memory: int = 16_000_000_000
    """Bytes that the opened index may take, and the process that makes it."""


@dataclass(frozen=True)
class Choice:
    """An index for a wish."""

    kind: Kind
    lists: int
    code: str
    """fp16, sq8, or pq with the bytes of a vector."""
    why: str
    vectors: int
    dimension: int

    @property
    def code_bytes(self) -> int:
        """Of a vector."""
        return code_bytes(self.code, self.dimension)

    @property
    def bytes(self) -> int:
        """Of the file, about."""
        links = 2 * LINKS * 4 + 4 * ID_BYTES if self.kind == HNSW else 0
        return self.vectors * (self.code_bytes + ID_BYTES + links) + 4 * self.dimension * self.lists

    @property
    def training_rows(self) -> int:
        """Vectors that the lists and codes are trained on; 0 where there is nothing to train."""
        codes = CODEC_ROWS if self.kind in (IVF_SQ, IVF_PQ) else 0
        return min(self.vectors, max(codes, PER_LIST * self.lists if self.lists > 1 else 0))


def code_bytes(code: str, dimension: int) -> int:
    """Bytes of a vector of so many values that is stored so."""
    return int(code[2:]) if code.startswith("pq") else dimension * (1 if code == "sq8" else 2)


def chosen(wish: Wish) -> Choice:
    """The index for a wish. Raises InputError, with what to set, where none fits its memory."""
    n, d = wish.vectors, wish.dimension
    kind, why = (_suited(wish) if wish.kind == AUTO else (wish.kind, "the recipe says so"))
    if kind == FLAT:
        return _of(wish, FLAT, 1, "fp16", why)
    if kind == HNSW:
        return _fitting(wish, _of(wish, HNSW, 1, "fp16", why))
    lists = lists_for(n)
    if kind == IVF:
        return _fitting(wish, _of(wish, IVF, lists, "fp16", why))
    if kind == IVF_SQ:
        return _fitting(wish, _of(wish, IVF_SQ, lists, "sq8", why))
    parts = quantisers(d, wish.memory // max(1, n) - ID_BYTES)
    return _fitting(wish, _of(wish, IVF_PQ, lists, f"pq{parts}", f"{why}; {parts} bytes of each vector stay"))


def _of(wish: Wish, kind: Kind, lists: int, code: str, why: str) -> Choice:
    reason = f"{kind}: {wish.vectors:,} vectors of {wish.dimension} values; {why}"
    return Choice(kind, lists, code, reason, wish.vectors, wish.dimension)


def _suited(wish: Wish) -> tuple[Kind, str]:
    n, d = wish.vectors, wish.dimension
    whole = 2.0 * n * d / SCANNED
    wished = f"{1000 * wish.latency:,.3g} ms"
    if whole <= wish.latency:
        return FLAT, f"a query is compared with all of them within {wished}, so nothing is trained and nothing is missed"
    if n * (2 * d + ID_BYTES) > wish.memory:
        fits = n * (d + ID_BYTES) <= wish.memory
        budget = f"in half precision they take {size(n * (2 * d + ID_BYTES))} of the {size(wish.memory)} of index.memory"
        if fits:
            return IVF_SQ, f"{budget}, so their values are stored in 8 bits"
        return IVF_PQ, f"{budget}, in 8 bits {size(n * (d + ID_BYTES))}, so they are product-quantised"
    lists = lists_for(n)
    quantiser = LINKS * 4.0 * d * 16 if lists >= LINKED_LISTS else 4.0 * d * lists
    looked_into = (quantiser + 2.0 * d * n * min(PROBED, lists) / lists) / SCANNED
    graph = _of(wish, HNSW, 1, "fp16", "")
    if looked_into > wish.latency and n <= HNSW_MOST and graph.bytes + RESIDENT <= wish.memory:
        return HNSW, (f"an inverted file would take some {1000 * looked_into:,.2g} ms for a query, more than the {wished} wished; "
                      "a graph is made by one thread, and fits the memory")
    return IVF, (f"all of them would take {1000 * whole:,.3g} ms for a query, more than the {wished} wished, and {lists:,} lists "
                 f"of half precision fit the memory")


def _fitting(wish: Wish, choice: Choice) -> Choice:
    needed = choice.bytes + (RESIDENT if choice.kind == HNSW else 0)
    if needed > wish.memory:
        raise InputError(
            f"an index of {wish.vectors:,} vectors of {wish.dimension} values takes {size(needed)} as {choice.kind}, and "
            f"index.memory is {size(wish.memory)}: set index.memory higher, or index.kind to "
            f"{'ivfpq' if choice.kind != IVF_PQ else 'auto, and index.of to kept'}")
    return choice


def lists_for(vectors: int) -> int:
    """How many lists an inverted file has: a power of two near four times the root of the vectors, so that the lists and what is
    in them take a search about as long; and few enough to be trained."""
    wished = 1 << max(0, round(math.log2(4 * math.sqrt(max(1, vectors)))))
    return max(1, min(wished, LISTS_MOST, vectors // 16))


def quantisers(dimension: int, most: int) -> int:
    """Into how many parts, of one byte each, a product quantiser cuts vectors: the largest divisor of their length that is at most
    `most` and leaves 4 values to a part; where there is none, the smallest but 1, or one for each value."""
    divisors = [m for m in range(1, dimension + 1) if dimension % m == 0]
    fine = [m for m in divisors if 1 < m <= min(most, dimension // 4)]
    return fine[-1] if fine else divisors[min(1, len(divisors) - 1)]
