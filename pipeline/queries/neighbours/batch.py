"""Many queries at once: a file of them is answered part by part, each part a file of its own until all are there, so that a stopped
batch goes on, and any number of workers writes the same bytes.

A worker holds a part: its queries, their neighbours, and the uids of the shards that these are in. Without an index every part
reads all embeddings of the root; with one it reads what the index looks into.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.distributed.executor import Executor
from pipeline.driver import cannot_be_done, rows_of, step_of
from pipeline.errors import InputError
from pipeline.queries.neighbours.asked import Scope
from pipeline.queries.neighbours.catalogue import Catalogue, Found
from pipeline.queries.neighbours.query import text_problem, vector_problems
from pipeline.queries.neighbours.query_file import QueryFile
from pipeline.queries.neighbours.saved import place_of, tidied
from pipeline.stage import digest
from pipeline.store.store import Store, absolute
from pipeline.store.tables import parquet_file, read_facts, read_table, write_table
from pipeline.timing import progress
from pipeline.vectors import Floats
from pipeline.work import Accounted, Facts, Place, Units, Work
from schemas.answers.neighbours import BatchAnswers

PART, PART_HITS = 1024, 1 << 19
"""Queries of a part, and neighbours of all of them, at most."""
ANSWERS = pa.schema([
    ("query", pa.int64()), ("rank", pa.int32()), ("uid", pa.string()), ("shard_id", pa.string()), ("row", pa.int32()),
    ("similarity", pa.float32()), ("error", pa.string()),
])
"""A row for each neighbour, the queries by number from 0 and the nearest first; a query that cannot be answered has one row, with
its error and nothing else."""


@dataclass(frozen=True)
class AnswerQueries(Work[int]):
    """Answers a part of a file of queries. An item is the number of the part."""

    root: str
    file: str
    rows: int
    parts: Store
    scope: Scope
    per_part: int
    texts: bool
    route: str
    """By which texts are embedded; empty: the root's own."""

    @property
    def place(self) -> Place:
        """Texts are embedded where the model can run."""
        return Place.MODEL if self.texts else Place.CPU

    @property
    def units(self) -> Units:
        return Units("part", "question")

    def rows_of(self, item: int) -> int:
        return min(self.per_part, self.rows - item * self.per_part)

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        yield partial(self._answer, Catalogue.open(self.root, self.route), QueryFile.open(self.file))

    def _answer(self, catalogue: Catalogue, file: QueryFile, part: int) -> Facts:
        first = part * self.per_part
        vectors, errors = read_queries(catalogue, file, first, self.rows_of(part))
        good = np.array([error is None for error in errors], bool)
        found = self.scope.nearest(catalogue, vectors) if good.any() else None
        facts = {"rows": len(errors), "errors": int((~good).sum()), "exact": found is None or found.exact}
        write_table(self.parts, part_name(part), answer_table(catalogue, first, errors, found), facts)
        return facts


def part_name(part: int) -> str:
    """The file of a part."""
    return f"{part:08d}.parquet"


def read_queries(catalogue: Catalogue, file: QueryFile, first: int, count: int) -> tuple[Floats, list[str | None]]:
    """So many queries from that one on: the vectors f32 [m, d] of those that can be answered, in order, and for each of all of them
    None, or why it cannot. Raises InputError for vectors of another dimension than the root's."""
    values = file.read(first, count)
    if isinstance(values, list):
        texts = [text or "" for text in values]
        errors = [text_problem(text) for text in texts]
        good = [text for text, error in zip(texts, errors, strict=True) if error is None]
        return (catalogue.encode_text(good) if good else np.zeros((0, catalogue.dimension), np.float32)), errors
    if values.shape[1] != catalogue.dimension:
        raise InputError(
            f"{file.url} has vectors of {values.shape[1]} values, and the root of {catalogue.dimension}: embed by the same model")
    errors = vector_problems(values)
    return np.asarray(values[[error is None for error in errors]], np.float32), errors


def answer_table(catalogue: Catalogue, first: int, errors: list[str | None], found: Found | None) -> pa.Table:
    """The answers to queries from `first` on, by ANSWERS. `found`: of those without an error."""
    bad = np.array([error is not None for error in errors], bool)
    ids = np.full((len(errors), 1 if found is None else found.ids.shape[1]), -1, np.int64)
    similarities = np.full(ids.shape, np.nan, np.float32)
    if found is not None:
        ids[~bad], similarities[~bad] = found.ids, found.similarities
    there = ids >= 0
    there[bad, 0] = True   # the row that says why
    query, rank = np.nonzero(there)
    chosen, nobody = ids[there], bad[query]
    located = catalogue.located(chosen[~nobody])

    def column(values: list[Any], type: pa.DataType) -> pa.Array:
        full = np.full(len(chosen), None, object)
        full[~nobody] = values
        return pa.array(full, type, from_pandas=False)

    return pa.table([
        pa.array(first + query, pa.int64()), pa.array(rank, pa.int32(), mask=nobody),
        column(catalogue.uids(chosen[~nobody]), pa.string()),
        column([shard_id for shard_id, _ in located], pa.string()), column([row for _, row in located], pa.int32()),
        pa.array(similarities[there], pa.float32(), mask=nobody), pa.array([errors[i] for i in query.tolist()], pa.string()),
    ], schema=ANSWERS)


@dataclass(frozen=True)
class Batch:
    """A file of queries, and where its answers go."""

    root: str
    queries: str
    output: str
    scope: Scope

    def run(self, executor: Executor, tell: progress.Reporter, route: str = "") -> BatchAnswers:
        """Answers what an earlier batch of the same queries, root and scope has not, and puts the parts together, in order. Raises
        InputError for queries or a scope that cannot be used, ShardmillError for a part that cannot be done."""
        output, name = place_of(self.output, [".parquet"])
        catalogue, file = Catalogue.open(self.root), QueryFile.open(self.queries)
        self.scope.check(catalogue)
        if not file.texts and file.rows:
            read_queries(catalogue, file, 0, 1)   # another dimension is said before workers start
        plan, per_part = catalogue.plan, max(1, min(PART, PART_HITS // self.scope.k))
        asked = [absolute(file.url), file.version, asdict(self.scope), per_part, route]
        identity = digest([plan.root.url, plan.describe(), *asked])
        parts_name = f"{name}.parts-{identity}"
        parts = output / parts_name
        work = AnswerQueries(plan.root.url, absolute(self.queries), file.rows, parts, self.scope, per_part, file.texts, route)
        numbers = range(-(-file.rows // per_part))
        self._answered(work, numbers, executor, tell)
        facts = [read_facts(parts, part_name(number)) for number in numbers]
        errors, exact = sum(part["errors"] for part in facts), all(part["exact"] for part in facts)
        total = {"queries": file.rows, "errors": errors, "exact": exact}
        with tidied(output), parquet_file(output, name, ANSWERS, total) as write:
            for number in numbers:
                write(read_table(parts, part_name(number)))
        output.remove(parts_name)
        return BatchAnswers(root=self.root, output=self.output, modality=self.scope.modality, verdict=self.scope.verdict, **total)

    def _answered(self, work: AnswerQueries, numbers: range, executor: Executor, tell: progress.Reporter) -> None:
        done = set(work.parts.names())
        missing = [number for number in numbers if part_name(number) not in done]
        if not missing:
            return
        already = len(numbers) - len(missing)
        tell.start("answering", progress.Scope(len(missing) + already, already, rows_of(work, missing), work.units))
        try:
            for outcome in executor.run(Accounted(work), missing):
                if outcome.error is not None:
                    raise cannot_be_done("answering", work, outcome)
                tell.advance(step_of(outcome.facts))
        finally:
            tell.finish()

