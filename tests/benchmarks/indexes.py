"""Indexes of a run against FAISS's own, on vectors of planted structure: what it takes to train and fill one, and what is found.

Both sides use one thread and train on as many vectors. FAISS's holds all vectors in memory and ends in memory; ours reads them from
the columns of a run, by groups, and ends as a file. Processor time counts, for both sides do nothing else.
"""

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from pipeline.api.progress import Silent
from pipeline.columns import Rows, vector_array
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.passes.index.build import Asked, filled_with, trained_anew
from pipeline.passes.index.indexed import Indexed, Site, members_of, numbered, write_members
from pipeline.passes.index.measure import measure as measured
from pipeline.passes.index.train import Split
from pipeline.recipe.sections import Index
from pipeline.root.log import EventLog
from pipeline.search.index.choice import PER_LIST, chosen
from pipeline.search.index.ids import parted
from pipeline.search.index.stored import open_index
from pipeline.search.index.trained import one_thread
from pipeline.shuffle.exchange import groups_of
from pipeline.store.blocks.several import write_columns
from pipeline.store.blocks.writing import Said
from pipeline.store.store import Store
from pipeline.vectors import Floats, Ints
from tests.benchmarks.embeddings import planted
from tests.benchmarks.figures import Figure

DIMENSION, SHARD_ROWS = 512, 10_000
COLUMNS = "columns/clip@0"
QUERIES = 1_000


def measure(rows: int) -> list[Figure]:
    """An inverted file of so many pictures' vectors: ours, then FAISS's."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        vectors = planted(rows + QUERIES, DIMENSION, 0)
        queries, vectors = vectors[rows:], vectors[:rows]
        site, asked = stored(Path(folder), vectors), Asked(Index(of="all", kind="ivf", modality=("image",)), DIMENSION, None)
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        table = numbered(members_of(site))
        write_members(site.indexed.store, site.indexed.folder, table.members)
        trained = trained_anew(site, asked, table, "")
        in_training = time.process_time() - began
        file = filled_with(site, table, ("image", trained), None)
        ours = time.process_time() - began
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        began = time.process_time()
        choice = chosen(asked.wish(rows))
        file = measured(site, {"image": file}, Split.of(choice, 0), 0.95)["image"]
        in_measuring = time.process_time() - began
        bare, theirs = faiss_alone(vectors, choice.lists)
        index = open_index(site.indexed.store, site.indexed.folder, file)
        everywhere, tenth, hundredth = file.measured
        truth = exact(vectors, queries)
        return [
            Figure("train and add: FAISS's processor time over ours", theirs / ours, "x", 0.8),
            Figure("  ours, of which training", in_training / ours, ""),
            Figure("  ours", rows / ours, "vectors/s"),
            Figure("  FAISS alone", rows / theirs, "vectors/s"),
            Figure("  measuring the recall, over train and add", in_measuring / ours, "x"),
            Figure("memory of the process beside the columns", held * 1024 / 1e6, "MB"),
            Figure(f"recall@10 with {everywhere.effort} of {choice.lists:,} lists", everywhere.recall, "", 0.95),
            Figure("  other queries, ours", overlap(rows_of(index.search(queries, 10).ids), truth), ""),
            Figure("  the same queries, FAISS's own index", overlap(bare_found(bare, queries, everywhere.effort), truth), ""),
            Figure(f"recall@10 among a tenth, {tenth.effort} lists", tenth.recall, "", 0.9),
            Figure(f"recall@10 among a hundredth, {hundredth.effort} lists", hundredth.recall, "", 0.9),
            *filtered_latency(index, site, queries),
        ]


def stored(folder: Path, vectors: Floats) -> Site:
    """The vectors as columns of a run, in shards."""
    store, ids = Store(str(folder)), []
    for number, start in enumerate(range(0, len(vectors), SHARD_ROWS)):
        part = vectors[start : start + SHARD_ROWS].astype(np.float16)
        there = pa.array(np.ones(len(part), bool))
        names = {name: vector_array(part, there) for name in ("image_embedding", "text_embedding")}
        write_columns(store, COLUMNS, [Said(f"s{number:06d}", len(part), {})], pa.table({"uid": [""] * len(part), **names}))
        ids.append(f"s{number:06d}")
    counts = tuple(min(SHARD_ROWS, len(vectors) - number * SHARD_ROWS) for number in range(len(ids)))
    driver = Driver(store, LocalExecutor(), Silent(), EventLog(store))
    return Site(Indexed(store, COLUMNS, None, "tables/index@0", 0), driver, groups_of(Rows(tuple(ids), counts), 1 << 17))


def faiss_alone(vectors: Floats, lists: int) -> tuple[Any, float]:
    """FAISS's index of the vectors, and the seconds of processor time that it took."""
    began = time.process_time()
    index: Any = faiss.index_factory(DIMENSION, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = PER_LIST
    index.train(vectors)
    for start in range(0, len(vectors), 1 << 17):
        index.add(vectors[start : start + (1 << 17)])
    return index, time.process_time() - began


def bare_found(index: Any, queries: Floats, effort: int) -> Any:
    """i64 [q, 10]: rows that FAISS's index finds."""
    index.nprobe = effort
    return index.search(queries, 10)[1]


def exact(vectors: Floats, queries: Floats) -> Any:
    """i64 [q, 10]: rows of the true neighbours."""
    return faiss.knn(queries, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]


def rows_of(ids: Ints) -> Ints:
    """The rows of the run, i64, with these ids; -1 where there is none."""
    numbers, rows = parted(ids)
    return np.where(ids >= 0, numbers * SHARD_ROWS + rows, -1)


def overlap(found: Any, truth: Any) -> float:
    """Share of the true neighbours that were found, both as rows of the run, i64 [q, 10]."""
    pairs = zip(found.tolist(), truth.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))


def filtered_latency(index: Any, site: Site, queries: Floats) -> list[Figure]:
    """Milliseconds of one query on one thread: among all, and among a hundredth."""
    everything = np.concatenate([site.indexed.ids(shard.shard_id, np.arange(shard.rows))
                                 for group in site.groups for shard in group.shards])
    allowed = np.random.default_rng(0).choice(everything, max(1, len(everything) // 100), replace=False)
    found = []
    for name, among in (("all", None), ("a hundredth", allowed)):
        spent = []
        for query in queries[:100]:
            began = time.perf_counter()
            index.search(query[None], 10, allowed=among)
            spent.append(time.perf_counter() - began)
        found.append(Figure(f"one query among {name}, one thread, median", 1e3 * float(np.median(spent)), "ms"))
    return found
