"""Nearest centres against FAISS's exhaustive search: same rows, same threads. Making the centres ready is in the times of the exact
searches; the lists of inverted files, which a run makes once, are in none, and ours have a figure of their own.

Ours runs as a run does it, a share of the rows per thread with single-threaded kernels; FAISS parts its work itself.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
import torch

from pipeline.search.inverted_file import LEAST, Search, gated, recall
from pipeline.search.kernels import kernel
from pipeline.search.nearest import assigned, nearest
from pipeline.search.threads import loaded_libraries, single_threaded
from pipeline.vectors import Floats, Ids
from tests.benchmarks.embeddings import glosses, planted
from tests.benchmarks.figures import Figure, interleaved, isa, median, ratio, ratios, spent

DIMENSION, LABELS = 256, 8
SAMPLE = 4_096   # rows that the gate measures recall on
RECALL = 0.985


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads in FAISS and torch, whatever they had before; numpy's BLAS keeps what the environment says."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])


def shared(x: Floats, find: Callable[[Floats], Ids]) -> Ids:
    """find(x), in as many threads as there are CPUs."""
    count = os.cpu_count() or 1
    one_thread = loaded_libraries().limit(limits=1, user_api="blas")
    with one_thread, ThreadPoolExecutor(count, initializer=single_threaded) as pool:
        return np.concatenate(list(pool.map(find, np.array_split(x, count))))


def measure(n: int, k: int, many: int, rounds: int) -> list[Figure]:
    """Exact search of n rows among k centres; search of n / 4 rows among `many` centres, planted and real."""
    with threads(os.cpu_count() or 1):
        rows = np.asarray(planted(n + max(k, many) + SAMPLE, DIMENSION, 0), np.float32)
        x, others = rows[:n], rows[n:]
        found = exact(x, others[:k], rounds)
        found += approximate(x[: n // 4], others[:many], others[-SAMPLE:], f"top-8, k = {many:,}", 4.0, rounds)
        real = glosses(None if many > LEAST else many + SAMPLE + n)
        real = real[np.random.default_rng(0).permutation(len(real))]
        rest = real[many:]
        found += approximate(rest[SAMPLE:][: n // 4], real[:many], rest[:SAMPLE], f"top-8, k = {many:,} glosses", None, rounds)
    return found


def exact(x: Floats, centres: Floats, rounds: int) -> list[Figure]:
    def first() -> Ids:
        ready = kernel()(centres)
        return shared(x, lambda rows: assigned(rows, ready))

    def eight() -> Ids:
        ready = kernel()(centres)
        return shared(x, lambda rows: nearest(rows, ready, LABELS)[0])

    ours, theirs, firsts = eight(), flat(x, centres, LABELS), first()   # warm-up
    times = spent({
        "flat 1": lambda: flat(x, centres, 1), "assigned": first, "flat 8": lambda: flat(x, centres, LABELS), "top 8": eight,
    }, rounds)
    seconds = times.wall
    work = 2 * x.size * len(centres) / 1e9
    size = f"{len(x):,} x {len(centres):,} x {x.shape[1]}"
    return [
        *ratios(f"exact assignment / faiss Flat, {size}", times, "flat 1", "assigned", isa(1.4, 1.0)),
        Figure("exact assignment", work / median(seconds["assigned"]), "GF/s"),
        Figure("same first centre as faiss", float((firsts == theirs[:, 0]).mean()), ""),
        *ratios(f"exact top-8 / faiss Flat, {size}", times, "flat 8", "top 8", isa(1.4, 1.0)),
        Figure("exact top-8", work / median(seconds["top 8"]), "GF/s"),
        Figure("recall@8 of the exact top-8, by faiss's ids", float(recall(ours, theirs).mean()), ""),
        Figure("faiss Flat top-8", work / median(seconds["flat 8"]), "GF/s"),
    ]


def approximate(x: Floats, centres: Floats, sample: Floats, name: str, bound: float | None, rounds: int) -> list[Figure]:
    """By the search that the gate takes. Its lists are made once for all rows of a run, so they have a figure of their own."""
    search = gated(centres, sample, LABELS, bound=RECALL)
    ready = search.centres(centres)
    def eight() -> Ids:
        return shared(x, lambda rows: nearest(rows, ready, LABELS)[0])

    inverted = faiss_ivf(centres, search)
    ours, theirs = eight(), flat(x, centres, LABELS)
    seconds = interleaved({
        "flat": lambda: flat(x, centres, LABELS), "ours": eight, "ivf": lambda: inverted.search(x, LABELS),
        "lists": lambda: nearest(x[:1], search.centres(centres), LABELS),
    }, rounds)
    return [
        ratio(f"{name} / faiss Flat", seconds["flat"], seconds["ours"], bound),
        Figure(f"{name}, recall@8", float(recall(ours, theirs).mean()), "", RECALL),
        Figure(f"{name}, {chosen(search)}: rows", len(x) / median(seconds["ours"]), "rows/s"),
        ratio(f"{name} / faiss's IVF, as many lists and probes, both made", seconds["ivf"], seconds["ours"], None),
        Figure("  its recall@8", float(recall(inverted.search(x, LABELS)[1], theirs).mean()), ""),
        Figure(f"{name}, making the lists (in no other figure)", median(seconds["lists"]), "s"),
    ]


def chosen(search: Search) -> str:
    return "exact" if search.probes is None else f"{search.probes} of {search.lists} lists"


def faiss_ivf(centres: Floats, search: Search) -> Any:
    """FAISS's inverted file with as many lists and probes as ours; its exhaustive search where ours is that."""
    index: Any = faiss.IndexFlatIP(centres.shape[1])
    if search.probes is not None and search.lists is not None:
        index = faiss.IndexIVFFlat(index, centres.shape[1], search.lists, faiss.METRIC_INNER_PRODUCT)
        index.train(centres)
        index.nprobe = search.probes
    index.add(centres)
    return index


def flat(x: Floats, centres: Floats, l: int) -> Ids:  # noqa: E741
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)
    ids: Ids = index.search(x, l)[1].astype(np.int32)
    return ids
