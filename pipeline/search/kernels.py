"""Kernels that propose the nearest centres, by inner product in float32, each with its own rounding."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import faiss
import numpy as np

from pipeline.search.device_centres import DeviceCentres
from pipeline.search.heaps import Heaps as Heaps
from pipeline.vectors import Floats, Ints

if TYPE_CHECKING:
    from pipeline.models.matrices.packed_matrix import PackedMatrix
    from pipeline.search.largest import Shortlist

SearchResult = tuple[Ints, Floats]
"""Ids of centres i64, and a float32 for each: [n, m], or [n] where one is asked for."""

ROUNDING = 2.0**-24   # unit roundoff of float32
GPU_MOST = 2048       # candidates that FAISS can give on a GPU


class Centres(Protocol):
    """Centres f32[k, d] made ready for search by one kernel."""

    @property
    def vectors(self) -> Floats:
        """The centres as they were given, f32[k, d]."""

    def candidates(self, rows: Floats, m: int) -> SearchResult:
        """The m <= k centres with the largest inner product for each row of f32[n, d], by the kernel's own rounding, best
        first: ids i64[n, m] and inner products f32[n, m]. Nothing of size n x k is held."""


@runtime_checkable
class Leading(Protocol):
    """Centres whose kernel has a faster way to the first two than `candidates`."""

    def leaders(self, rows: Floats) -> SearchResult:
        """See `leaders`, the function."""


@runtime_checkable
class Listing(Protocol):
    """Centres whose kernel is faster when it may name more of them than asked for, so long as all that may be best are there."""

    @property
    def plain(self) -> Centres:
        """The same centres for the rows that `listed` leaves open."""

    def listed(self, rows: Floats, sure: int, allowed: float) -> "Shortlist":
        """All centres that may be among the first `sure` of each row of f32[n, d], or tie with these; for a row that is left open,
        none. `allowed` is the tolerance: a product that float32 finds so much lower than another one is lower."""


@runtime_checkable
class Choosing(Protocol):
    """Centres for which a kernel is chosen when it is known what is asked of how many rows."""

    def by(self, use: str, n: int) -> Centres:
        """The same centres, ready for a kernel; `use` is LEADERS or TOP."""


LEADERS, TOP = "leaders", "top"
"""Uses of a kernel: the nearest centre of each row and its lead; the m nearest of each row."""


def kernel_for(centres: Centres, use: str, n: int) -> Centres:
    """The centres, ready for the kernel that suits this use (LEADERS or TOP) of n rows."""
    return centres.by(use, n) if isinstance(centres, Choosing) else centres


Kernel = Callable[[Floats], Centres]


def leaders(centres: Centres, rows: Floats) -> SearchResult:
    """The nearest centre of each row of f32[n, d], i64[n], and by how much its inner product exceeds the next, f32[n], by the
    kernel's rounding."""
    if isinstance(centres, Leading):
        return centres.leaders(rows)
    if len(centres.vectors) == 1:
        return np.zeros(len(rows), np.int64), np.full(len(rows), np.inf, np.float32)
    ids, values = centres.candidates(rows, 2)
    return ids[:, 0], values[:, 0] - values[:, 1]


@dataclass(frozen=True, eq=False)
class FlatCentres:
    """FAISS's exhaustive search: the reference, and the kernel where no other is faster."""

    vectors: Floats

    @cached_property
    def index(self) -> Any:
        """FAISS's index of the centres."""
        index = faiss.IndexFlatIP(self.vectors.shape[1])
        index.add(self.vectors)
        return index

    def candidates(self, rows: Floats, m: int) -> SearchResult:
        """See `Centres`."""
        values, ids = self.index.search(rows, m)
        return ids, values


@dataclass(frozen=True, eq=False)
class GpuCentres:
    """FAISS's exhaustive search on the first visible GPU, in float32."""

    vectors: Floats

    @cached_property
    def index(self) -> Any:
        """FAISS's index of the centres, on the GPU."""
        index = faiss.GpuIndexFlatIP(gpu_resources(), self.vectors.shape[1])
        index.add(self.vectors)
        return index

    def candidates(self, rows: Floats, m: int) -> SearchResult:
        """See `Centres`; more than GPU_MOST come from the CPU."""
        if m > GPU_MOST:
            return FlatCentres(self.vectors).candidates(rows, m)
        values, ids = self.index.search(rows, m)
        return ids, values


@cache
def gpu_resources() -> Any:
    """FAISS's scratch memory on a GPU, 1.5 GB of it: one for the process."""
    return faiss.StandardGpuResources()


@dataclass(frozen=True, eq=False)
class PackedCentres:
    """oneDNN's products, a block of rows and a tile of centres at a time, and FAISS's heaps to choose from them."""

    vectors: Floats

    @cached_property
    def matrix(self) -> "PackedMatrix":
        """The centres in the layout that oneDNN multiplies."""
        from pipeline.models.matrices.packed_matrix import PackedMatrix  # torch takes seconds to import

        return PackedMatrix.of(self.vectors)

    def candidates(self, rows: Floats, m: int) -> SearchResult:
        """See `Centres`."""
        from pipeline.models.matrices.packed_matrix import ROWS, WIDTH

        heaps = Heaps.of(len(rows), m)
        block = np.zeros((ROWS, rows.shape[1]), np.float32)   # always full: what a row gets does not depend on the others
        for at in range(0, len(rows), ROWS):
            size = min(ROWS, len(rows) - at)
            block[:size] = rows[at : at + size]
            for part in range(len(self.matrix.parts)):
                products = self.matrix.products(block, part)
                heaps.add(products[:size], part * WIDTH, at)
        return heaps.best()

    def leaders(self, rows: Floats) -> SearchResult:
        """See `leaders`. numpy finds a row's largest product ten times as fast as a heap, and its second as the largest without
        it."""
        from pipeline.models.matrices.packed_matrix import ROWS, WIDTH

        ids = np.zeros(len(rows), np.int64)
        first, second = (np.full(len(rows), -np.inf, np.float32) for _ in range(2))
        block, line = np.zeros((ROWS, rows.shape[1]), np.float32), np.arange(ROWS)
        for at in range(0, len(rows), ROWS):
            size = min(ROWS, len(rows) - at)
            part, numbers = slice(at, at + size), line[:size]
            block[:size] = rows[part]
            for tile in range(len(self.matrix.parts)):
                products = self.matrix.products(block, tile)[:size]
                best = products.argmax(axis=1)
                values = products[numbers, best]
                products[numbers, best] = -np.inf
                runner_up = products.max(axis=1)
                second[part] = np.maximum(np.minimum(first[part], values), np.maximum(second[part], runner_up))
                ids[part] = np.where(values > first[part], best + tile * WIDTH, ids[part])
                first[part] = np.maximum(first[part], values)
        return ids, first - second


DEVICES: list[str] = []
"""The device that this process may use, if any. Without one it leaves every GPU alone: other processes' GPUs may be visible to
it."""


def use_device(device: str | None) -> bool:
    """Lets the searches of this process run on this device (torch's name of it) from now on; None: on the CPU. False where they
    stay on the CPU."""
    from pipeline.search.fastest import FastestCentres  # it knows all the kernels of this module

    DEVICES[:] = [] if device is None else [device]
    kernel.cache_clear()
    return kernel() is not FastestCentres


@cache
def kernel() -> Kernel:
    """The fastest exact kernel of this process; one that does not agree with FAISS's on a small problem is none. On a CPU it
    depends on the shape: it is measured when it is needed (`fastest.py`).

    On a device torch's matrix units propose in half precision and the device itself ranks exactly: FAISS's flat search
    there is float32, at a tenth of their speed, and leaves the ranking to the CPU. It stays for what torch's gets wrong.
    """
    from pipeline.search.fastest import FastestCentres

    for device in DEVICES:
        from pipeline.models.matrices.device_rows import can_compute_on  # torch takes seconds to import

        on_device = partial(DeviceCentres, device=device)
        if can_compute_on(device) and agrees(on_device):
            return on_device
        if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0 and agrees(GpuCentres):
            return GpuCentres
    return FastestCentres


def agrees(candidate: Kernel, n: int = 300, k: int = 700, d: int = 96) -> bool:
    """Whether a kernel gives, up to float32's rounding, the inner products that FAISS gives, for the centres it names: tried on n
    random rows and k centres of d values."""
    random = np.random.default_rng(0)
    rows, vectors = random.standard_normal((n, d), np.float32), random.standard_normal((k, d), np.float32)
    centres, allowed = candidate(vectors), tolerance(rows, vectors)
    ids, values = centres.candidates(rows, 8)
    first, lead = leaders(centres, rows)
    named = np.vecdot(vectors[np.column_stack([ids, first])].astype(np.float64), rows[:, None].astype(np.float64))
    expected = FlatCentres(vectors).candidates(rows, 8)[1]
    near = (np.abs(values - expected) <= allowed).all() and (np.abs(values - named[:, :8]) <= allowed).all()
    behind = expected[:, 0] - expected[:, 1]
    leading = ((np.abs(lead - behind) <= 2 * allowed) | (np.isinf(lead) & (behind > allowed))).all()
    return bool(near and leading and (np.abs(expected[:, 0] - named[:, 8]) <= allowed).all())


def tolerance(rows: Floats, vectors: Floats) -> float:
    """How far apart two inner products of rows f32[n, d] and centres f32[k, d], summed in float32 in any order, may lie and yet be
    in the wrong order.

    Each is off by at most about d * u * |x| * |c|. Raises ValueError where a row or centre is not finite.
    """
    reach = longest(rows) * longest(vectors)
    if not math.isfinite(reach):
        raise ValueError("rows and centres must be finite; leave out rows whose embedding is not valid")
    return float(2.01 * (rows.shape[1] + 4) * ROUNDING * reach)


def longest(rows: Floats) -> float:
    """The largest Euclidean length of a row of f32[n, d]; not finite where a value is not."""
    squares: Floats = np.vecdot(rows, rows)
    return math.sqrt(float(squares.max(initial=0)))
