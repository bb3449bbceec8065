"""A trained index without vectors, and what it makes of vectors: the list of each, and its code.

Lists go by the exact nearest centroid, as everything else that is labelled (`nearest.py`): the same for any batch, number of
threads or kernel, on a GPU too. Codes are FAISS's own. What FAISS computes in parallel it may sum in another order, so whoever
trains a codec or a graph here lets it use one thread.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss
import numpy as np

from pipeline.errors import RootError
from pipeline.search.index.choice import FLAT, IVF, IVF_SQ, LINKED_LISTS, LINKS, Choice
from pipeline.search.nearest import Centres, assigned, kernel
from pipeline.search.threads import loaded_libraries
from pipeline.vectors import Bytes, Floats, Ids

CONSTRUCTION = 40
"""Width of the walk that finds a vertex its neighbours (efConstruction)."""
CODE_PASSES = 12
"""Iterations that fit a product quantiser; FAISS makes 25, for twice the time and little gain."""
QUANTISER_EFFORT = 128
"""The same of the search for the nearest lists, where a graph finds them."""


@dataclass(frozen=True, eq=False)
class TrainedIndex:
    """A trained index without vectors, as FAISS writes it."""

    content: bytes

    @classmethod
    def of(cls, choice: Choice, centroids: Floats, sample: Floats, seed: int) -> "TrainedIndex":
        """An index of this kind with these lists, f32 [lists, d] of unit length. `sample`, f32 [n, d]: unit vectors that the codes
        are fitted to; only codes of 8 bits and of product quantisers are."""
        with one_thread():
            return cls(bytes(faiss.serialize_index(_empty(choice, np.ascontiguousarray(centroids, np.float32), sample, seed))))

    @cached_property
    def index(self) -> Any:
        """FAISS's index. Raises RootError for what is none."""
        return parsed(self.content)

    @property
    def dimension(self) -> int:
        return int(self.index.d)

    @property
    def lists(self) -> int:
        return int(self.index.nlist)

    @property
    def code_bytes(self) -> int:
        return int(self.index.code_size)

    @property
    def head(self) -> bytes:
        """What comes before the lists in the file of this index (`lists.py`). Raises RootError for another form than is known."""
        tail = lists_head(self.lists, self.code_bytes) + b"sprs" + struct.pack("<Q", 0)
        if not self.content.endswith(tail):
            raise RootError("a trained index is not as FAISS wrote it when this was made: remove the index's folder and run again")
        return self.content[: -len(tail)]

    @cached_property
    def _centres(self) -> Centres:
        """The centroids, ready to be compared with, once for all shards of a worker."""
        quantiser: Any = faiss.downcast_index(self.index.quantizer)
        flat = quantiser if isinstance(quantiser, faiss.IndexFlat) else faiss.downcast_index(quantiser.storage)
        return kernel()(np.array(flat.reconstruct_n(0, flat.ntotal), np.float32))

    def placed(self, rows: Floats) -> tuple[Ids, Bytes]:
        """The list of each vector, i32 [n], and its code, u8 [n, code bytes]. `rows`: f32 [n, d], of unit length."""
        rows = np.ascontiguousarray(rows, np.float32)
        lists = assigned(rows, self._centres) if self.lists > 1 else np.zeros(len(rows), np.int32)
        codes, numbers = np.empty((len(rows), self.code_bytes), np.uint8), lists.astype(np.int64)
        if len(rows):
            with one_thread():
                self.index.encode_vectors(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(numbers), faiss.swig_ptr(codes))
        return lists, codes


def parsed(content: bytes) -> Any:
    """FAISS's index of what was serialised. Raises RootError for what is none."""
    try:
        return faiss.deserialize_index(np.frombuffer(content, np.uint8))
    except RuntimeError as error:
        raise RootError(f"a trained index cannot be read ({_short(error)}): remove the index's folder and run again") from error


def lists_head(lists: int, code_bytes: int) -> bytes:
    """What FAISS writes before the sizes of inverted lists."""
    return b"ilar" + struct.pack("<QQ", lists, code_bytes)


def _empty(choice: Choice, centroids: Floats, sample: Floats, seed: int) -> Any:
    lists, d = centroids.shape
    quantiser: Any
    if lists >= LINKED_LISTS:
        quantiser = faiss.IndexHNSWFlat(d, LINKS, faiss.METRIC_INNER_PRODUCT)
        quantiser.hnsw.efConstruction, quantiser.hnsw.efSearch = 2 * CONSTRUCTION, QUANTISER_EFFORT
    else:
        quantiser = faiss.IndexFlatIP(d)
    quantiser.add(centroids)
    index: Any
    if choice.kind in (FLAT, IVF):
        half = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexIVFScalarQuantizer(quantiser, d, lists, half, faiss.METRIC_INNER_PRODUCT, False)
    elif choice.kind == IVF_SQ:
        eight = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexIVFScalarQuantizer(quantiser, d, lists, eight, faiss.METRIC_INNER_PRODUCT, True)
    else:
        index = faiss.IndexIVFPQ(quantiser, d, lists, choice.code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.seed = seed & 0x7FFFFFFF
        index.pq.cp.niter = CODE_PASSES
        index.pq.cp.min_points_per_centroid = 1   # it would only warn, on stderr
    if choice.kind not in (FLAT, IVF):
        _fit_codes(index, sample, choice)
    index.is_trained = True
    index.own_fields = True
    quantiser.this.disown()
    return index


def _fit_codes(index: Any, sample: Floats, choice: Choice) -> None:
    """Fits the codes, by FAISS, to a sample; of fewer than a byte can tell apart, to the sample over and over."""
    rows = np.ascontiguousarray(sample, np.float32)
    needed = 256 if choice.code.startswith("pq") else 1
    if len(rows) < needed:
        rows = np.resize(rows if len(rows) else np.zeros((1, index.d), np.float32), (needed, index.d))
    index.train(rows)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it FAISS computes in the calling thread alone."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with loaded_libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        faiss.omp_set_num_threads(threads)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][-200:]
