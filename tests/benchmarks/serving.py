"""The service beside the bare FAISS call: planted vectors, one index for both, in one run.

The service runs in a process of its own, its clients in another; all share the machine's CPUs, which the bare call has alone.
Its hits are those of the bundled sample's root, whose rows stand for the planted vectors in turn: the cost of reading what is known
of a hit is in the figures, that of a root whose columns do not fit its cache is not.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.vectors import Floats
from tests.benchmarks.embeddings import planted
from tests.benchmarks.figures import Figure
from tests.benchmarks.load import Load, load
from tests.benchmarks.planted_service import DIMENSION, K, probed
from tests.curations import curated

RECALL = 0.95
CLIENTS = (1, 8, 32)
HELD_OUT = 1_000
"""Queries: rows of the same plan that are not in the index."""
TRAINED = 100_000
RATE, P99, IMAGE_P99, MEMORY = 0.7, 50.0, 20.0, 500.0
SAMPLE = Path(__file__).parents[2] / "pipeline" / "assets" / "sample"


@dataclass(frozen=True)
class Indexed:
    """An index on disk, and the effort that gives RECALL."""

    path: Path
    effort: int
    recall: float
    queries: Floats


def indexed(n: int, folder: Path) -> Indexed:
    """An inverted file over n planted vectors, as many probes as RECALL takes; the index is in no process's memory afterwards."""
    rows = planted(n + HELD_OUT, DIMENSION, 0)
    rows, queries = rows[:n], rows[n:]
    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(rows)
    exact = flat.search(queries, K)[1]
    del flat
    lists = 1 << int(np.log2(4 * n ** 0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIMENSION), DIMENSION, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(rows[np.random.default_rng(0).permutation(n)[: min(n, TRAINED)]])
    index.add(rows)
    effort, recall = 1, 0.0
    while recall < RECALL and effort < lists:
        effort = effort * 3 // 2 + 1
        recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(probed(index, queries, effort)[1], exact, strict=True)]))
    faiss.write_index(index, str(folder / "planted.index"))
    return Indexed(folder / "planted.index", effort, recall, queries)


@contextmanager
def served(root: Path, index: Indexed) -> Iterator[tuple[int, int]]:
    """Port and process of the service."""
    command = [sys.executable, "-m", "tests.benchmarks.planted_service", str(root), str(index.path), str(index.effort)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())["port"], child.pid
        assert child.stdin is not None
        child.stdin.close()


def processor(process: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(process: int) -> int:
    """Bytes of a process that are in memory, those of mapped files too."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bare(index: Any, queries: Floats, effort: int, clients: int, seconds: float) -> float:
    """Queries a second of the FAISS call alone, `clients` queries in each, with all threads."""
    asked, began, place = 0, time.monotonic(), 0
    while (spent := time.monotonic() - began) < seconds:
        probed(index, queries[place : place + clients], effort)
        place = (place + clients) % (len(queries) - clients)
        asked += clients
    return asked / spent


def bare_single(index: Any, queries: Floats, effort: int, clients: int, seconds: float) -> float:
    """The same, one query in each call, from as many threads as there are clients."""
    counts, until = [0] * clients, time.monotonic() + seconds

    def ask(number: int) -> None:
        while time.monotonic() < until:
            probed(index, queries[(counts[number] * clients + number) % len(queries)][None], effort)
            counts[number] += 1

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    return sum(counts) / seconds


def measure(n: int, seconds: float, root: Path | None = None) -> list[Figure]:
    """QPS and latency for CLIENTS, pictures out of their tars, memory. `root`: one of the bundled sample that is there already."""
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        if root is None:
            curated(root := folder / "root", [SAMPLE], ("model.compile=false",))
        index = indexed(n, folder)
        opened = faiss.read_index(str(index.path))
        requests = [{"method": "POST", "path": "/search", "body": json.dumps({"vector": query.tolist(), "k": K})}
                    for query in index.queries]
        figures = [Figure(f"{n:,} x {DIMENSION}, {index.effort} lists probed: recall@{K}", index.recall, "", RECALL)]
        with served(root, index) as (port, process):
            load(port, 2, seconds / 4, requests)   # the pages of the index
            for clients in CLIENTS:
                alone = bare(opened, index.queries, index.effort, clients, seconds)
                single = bare_single(opened, index.queries, index.effort, clients, seconds / 2)
                worked = processor(process)
                seen = load(port, clients, seconds, requests)
                worked = (processor(process) - worked) / max(1.0, seen.rate * seconds) * 1e3
                figures += of_clients(clients, alone, single, seen)
                figures += [
                    Figure(f"{clients} clients: processor time of a query, bare FAISS", index_work(opened, index, clients), "ms"),
                    Figure(f"{clients} clients: processor time of a query, service", worked, "ms"),
                ]
            figures += of_pictures(port, root, seconds)
            beyond = (resident(process) - index.path.stat().st_size) / 1e6
            figures.append(Figure("memory of the service beyond the index, without the model", beyond, "MB", MEMORY, at_most=True))
    return figures


def index_work(opened: Any, index: Indexed, clients: int) -> float:
    """Milliseconds of processor time of a query, `clients` of them in each call."""
    began = time.process_time()
    for at in range(0, len(index.queries) - clients, clients):
        probed(opened, index.queries[at : at + clients], index.effort)
    return (time.process_time() - began) / (len(index.queries) - clients) * 1e3


def of_clients(clients: int, alone: float, single: float, seen: Load) -> list[Figure]:
    assert not seen.failures, seen.failures
    return [
        Figure(f"{clients} clients: bare FAISS, {clients} queries a call", alone, "queries/s"),
        Figure(f"{clients} clients: bare FAISS, a query a call", single, "queries/s"),
        Figure(f"{clients} clients: service", seen.rate, "queries/s"),
        Figure(f"{clients} clients: service / bare FAISS", seen.rate / alone, "x", RATE if clients > 1 else None),
        Figure(f"{clients} clients: p50", seen.p50, "ms"),
        Figure(f"{clients} clients: p99", seen.p99, "ms", P99 if clients == 8 else None, at_most=True),
    ]


def of_pictures(port: int, root: Path, seconds: float) -> list[Figure]:
    """One client, each picture in turn."""
    catalogue = Catalogue.open(str(root))
    uids = [uid for shard in catalogue.plan.shards for uid, fault in zip(*(
        column.to_pylist() for column in catalogue.columns.read(shard.shard_id, ["uid", "image_error"]).values()), strict=True)
        if fault is None]
    names: Sequence[str] = uids
    seen = load(port, 1, seconds, [{"method": "GET", "path": f"/image/{name}"} for name in names])
    assert not seen.failures, seen.failures
    return [
        Figure("picture out of its tar: rate, 1 client", seen.rate, "pictures/s"),
        Figure("picture out of its tar: p50", seen.p50, "ms"),
        Figure("picture out of its tar: p99", seen.p99, "ms", IMAGE_P99, at_most=True),
    ]

