"""The fastest kernel of this CPU for a shape of the problem, found by trying all of them once.

Which one it is differs with the processor, the number of centres and what is asked; not a bit of a result depends on it
(`nearest.py`). What is tried is the whole call, with the exact measuring that a kernel leaves to it, on rows around centres.
FAISS's own search is among the kernels, so none is taken that was slower than that in the trial. But exact measuring, which FAISS
alone does not do, comes on top of each: with few centres the whole call may take longer than FAISS's.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from pipeline.search.kernels import LEADERS, TOP, Centres, FlatCentres, Kernel, PackedCentres, SearchResult, agrees, leaders
from pipeline.search.nearest import assigned, nearest
from pipeline.search.products import BlasCentres
from pipeline.search.quantised import QuantisedCentres
from pipeline.search.threads import loaded_libraries, single_threaded
from pipeline.vectors import Floats

LABELS = 8              # nearest centres that the trial of TOP asks for
USES: Mapping[str, Callable[[Floats, Centres], Any]] = {
    LEADERS: assigned, TOP: lambda rows, centres: nearest(rows, centres, min(LABELS, len(centres.vectors))),
}

SMALL = 1 << 31         # multiplications below which a search is over before a trial
SHORT = 16              # values of a vector below which FAISS is several times slower than numpy
ROWS = 1024             # of a trial
PRODUCTS = 1 << 28      # multiplications of one kernel in a trial: some 10 ms
ROUNDS = 3
SECONDS = 0.3           # a trial takes at most, but for one round of each kernel that may be the fastest
HOPELESS = 1.5          # times the fastest: no further round for such a kernel
GAIN = 0.97             # of FAISS's time: what gains less is as good as noise
SPREAD = 0.7            # length of a row's deviation from its centre, and of a centre's from its topic
PER_TOPIC = 16          # centres around one topic

Clock = Callable[[], float]


@dataclass(frozen=True, eq=False)
class FastestCentres:
    """Centres f32[k, d] that choose their kernel by what is asked of how many rows."""

    vectors: Floats
    _ready: dict[Kernel, Centres] = field(default_factory=dict)

    def candidates(self, rows: Floats, m: int) -> SearchResult:
        """See `kernels.Centres`."""
        return self.by(TOP, len(rows)).candidates(rows, m)

    def leaders(self, rows: Floats) -> SearchResult:
        """See `kernels.leaders`."""
        return leaders(self.by(LEADERS, len(rows)), rows)

    def by(self, use: str, n: int) -> Centres:
        """See `kernels.Choosing`."""
        k, d = self.vectors.shape
        small = not self._ready and n * k * d < SMALL
        untried = BlasCentres if d < SHORT else FlatCentres
        kernel = untried if small else fastest(use, *shape(k, d))
        return self._ready.setdefault(kernel, kernel(self.vectors)) if not small else kernel(self.vectors)


def shape(k: int, d: int) -> tuple[int, int]:
    """The shape that is tried for k centres of d values: powers of two, as large as a trial has time for."""
    width = min(1024, max(16, 1 << (d - 1).bit_length()))
    largest_k = max(64, PRODUCTS // (ROWS * width))
    return min(largest_k, max(16, 1 << (k - 1).bit_length())), width


LOCK = Lock()


def fastest(use: str, k: int, d: int) -> Kernel:
    """The kernel for a use of a shape; tried once in a process, by one thread while the others wait."""
    with LOCK:
        return _fastest(use, k, d)


@cache
def _fastest(use: str, k: int, d: int) -> Kernel:
    seconds = trial(use, k, d)
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] <= GAIN * seconds[FlatCentres] else FlatCentres


@cache
def trusted() -> tuple[Kernel, ...]:
    """The kernels that this machine has and that agree with FAISS's, which comes first."""
    from pipeline.models.matrices.packed_matrix import can_multiply  # torch takes seconds to import
    from pipeline.models.matrices.quantised import can_quantise

    available: dict[Kernel, bool] = {BlasCentres: True, PackedCentres: can_multiply(), QuantisedCentres: can_quantise()}
    return (FlatCentres, *(kernel for kernel, runs in available.items() if runs and agrees(kernel)))


def trial(use: str, k: int, d: int, clock: Clock = time.thread_time) -> dict[Kernel, float]:
    """Processor seconds of every trusted kernel on rows around centres, in one thread; the least of some rounds in turn."""
    kernels = trusted()

    def measured() -> dict[Kernel, float]:
        began = clock()
        rows, vectors = rows_and_centres(k, d)
        ready = {kernel: kernel(vectors) for kernel in kernels}
        seconds = {kernel: _spent(use, rows, centres, clock) for kernel, centres in ready.items()}
        first = dict(seconds)   # with what makes them ready, which may be slow
        for number in range(ROUNDS):
            for kernel, centres in ready.items():
                hopeless = min(first[kernel], seconds[kernel]) > HOPELESS * min(seconds.values()) and number
                if clock() - began < SECONDS and not hopeless:
                    seconds[kernel] = min(seconds[kernel], _spent(use, rows, centres, clock))
        return seconds

    with loaded_libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(1, initializer=single_threaded) as pool:
        return pool.submit(measured).result()


def rows_and_centres(k: int, d: int) -> tuple[Floats, Floats]:
    """Unit rows f32[ROWS, d] around unit centres f32[k, d], which lie around topics, as embeddings do."""
    random = np.random.default_rng(0)
    topics = _unit(random.standard_normal((1 + k // PER_TOPIC, d), np.float32))
    deviations = _unit(random.standard_normal((k, d), np.float32))
    vectors = _unit(topics[np.arange(k) // PER_TOPIC] + SPREAD * deviations)
    noise = _unit(random.standard_normal((ROWS, d), np.float32))
    return _unit(vectors[random.integers(k, size=ROWS)] + SPREAD * noise), vectors


def _spent(use: str, rows: Floats, centres: Centres, clock: Clock) -> float:
    began = clock()
    USES[use](rows, centres)
    return clock() - began


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
