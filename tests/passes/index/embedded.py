"""Columns of embeddings without a model: what an index is made of, of any size and shape."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.api.progress import Silent
from pipeline.columns import Rows, vector_array
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.passes.index.build import Asked, build
from pipeline.passes.index.indexed import Indexed
from pipeline.recipe.sections import Index
from pipeline.root.log import EventLog
from pipeline.search.index.ids import ShardNumbers
from pipeline.search.index.opened import OpenIndex
from pipeline.search.index.stored import open_index, read_numbers
from pipeline.store.blocks.several import write_columns
from pipeline.store.blocks.writing import Said
from pipeline.store.store import Store
from pipeline.store.tables import write_table
from pipeline.vectors import Floats, unit
from pipeline.work import Item, Outcome, Work
from schemas.indexes import IndexRecord

COLUMNS, VERDICTS = "columns/clip@0", "verdicts@0"


def planted(rows: int, d: int, seed: int, topics: int = 30) -> Floats:
    """f32 [rows, d]: unit vectors around topics."""
    random = np.random.default_rng(seed)
    centres = unit(np.random.default_rng(1).standard_normal((topics, d)))
    return unit(centres[random.integers(topics, size=rows)] + 0.7 * unit(random.standard_normal((rows, d))))


@dataclass
class Killed(LocalExecutor):
    """Does so many items, in the order of their names or backwards, and is killed."""

    lives: int = 100_000
    backwards: bool = False
    gives_up = False

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        for outcome in super().run(work, list(items)[:: -1 if self.backwards else 1]):
            if self.lives == 0:
                raise KeyboardInterrupt
            self.lives -= 1
            yield outcome


@dataclass(frozen=True)
class Embedded:
    """A store with the embeddings of some shards, by shard id."""

    store: Store
    shards: Mapping[str, Floats]

    @classmethod
    def write(cls, folder: Path | str, shards: Mapping[str, Floats]) -> "Embedded":
        """Pictures have these vectors, captions ones that lie a little apart from them."""
        found = cls(Store(str(folder)), shards)
        for shard_id, vectors in shards.items():
            there = pa.array(np.ones(len(vectors), bool))
            away = unit(vectors + 0.4 * planted(len(vectors), vectors.shape[1], len(vectors)))
            write_columns(found.store, COLUMNS, [Said(shard_id, len(vectors), {})], pa.table({
                "uid": [f"{shard_id}{row}" for row in range(len(vectors))],
                "image_embedding": vector_array(vectors.astype(np.float16), there),
                "text_embedding": vector_array(away.astype(np.float16), there)}))
        return found

    @classmethod
    def sized(cls, folder: Path | str, counts: Sequence[int], d: int = 32) -> "Embedded":
        """Shards with so many planted vectors each."""
        return cls.write(folder, {f"s{number}": planted(count, d, number) for number, count in enumerate(counts)})

    def judged(self, rejected: Mapping[str, Sequence[int]]) -> None:
        """Writes verdicts: all are kept but these rows."""
        for shard_id, vectors in self.shards.items():
            verdicts = ["rejected:rule" if row in rejected.get(shard_id, ()) else "kept" for row in range(len(vectors))]
            write_table(self.store, f"{VERDICTS}/{shard_id}.parquet", pa.table({"verdict": pa.array(verdicts, pa.string())}), {})

    def build(
        self, name: str, before: str | None = None, *, executor: LocalExecutor | None = None, verdicts: str | None = None,
        shards: Sequence[str] | None = None, **settings: Any,
    ) -> IndexRecord:
        """Makes the indexes `tables/NAME`."""
        index = Index(of="all" if verdicts is None else "kept", **settings)
        ids = tuple(self.shards if shards is None else shards)
        rows = Rows(ids, tuple(len(self.shards[shard_id]) for shard_id in ids))
        indexed = Indexed(self.store, COLUMNS, verdicts, f"tables/{name}", 0)
        driver = Driver(self.store, executor or LocalExecutor(), Silent(), EventLog(self.store))
        d = next(iter(self.shards.values())).shape[1] if self.shards else 8
        return build(indexed, rows, driver, Asked(index, d, None if before is None else f"tables/{before}"))

    def opened(self, name: str, record: IndexRecord, modality: str = "image") -> tuple[OpenIndex, ShardNumbers]:
        """An index, and the numbers of its shards."""
        folder = f"tables/{name}"
        return open_index(self.store, folder, record.indexes[modality]), read_numbers(self.store, folder)

    def files(self, name: str) -> dict[str, bytes]:
        """The content of the files of a folder."""
        return {file: self.store.read(f"tables/{name}/{file}") for file in self.store.names(f"tables/{name}")}
