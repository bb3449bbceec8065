"""What a run found, as its report shows it: duplicate pairs, classes, entities. First the rows, then the cards with pictures."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.export.class_table import class_names, has_class_table, stored_class_table, stored_quality
from pipeline.input.discovery import Shard
from pipeline.plan import Plan
from pipeline.report.class_facts import class_facts, confusable
from pipeline.report.data import LIMITS, ClassCard, ClassEntity, Confusable, EntityRow, Pair, Top
from pipeline.report.pictures import Pictures, RowId
from pipeline.root.existing import pair_tables
from pipeline.store.tables import read_columns, read_table

Row = Mapping[str, Any]
EXACT = {"uid": "same image and caption", "sha256": "same image bytes, another caption"}
DOUBTFUL = {"near": "correlation", "semantic": "cosine"}
"""Kinds of pairs that are not certain, and the measure of how alike they are."""
EXACT_SHOWN = LIMITS["pairs"] // 4
BATCH = 65_536


@dataclass(frozen=True)
class DuplicatePairs:
    """The duplicate pairs that are shown (`rows` of the table of duplicates), how many there are in all, and in words how alike
    each requested row and its partner are."""

    rows: tuple[Row, ...]
    total: int
    measures: Mapping[RowId, str]

    @property
    def row_ids(self) -> list[RowId]:
        """The rows whose pictures the cards need."""
        return [row for pair in self.rows for row in (row_id(pair), partner_id(pair))]

    def cards(self, pictures: Pictures) -> Top[Pair]:
        """The pairs with their pictures, in the order in which they are shown."""
        return Top(tuple(
            Pair(pictures.picture(row_id(pair)), pictures.picture(partner_id(pair)),
                 pair["kind"] if pair["kind"] in DOUBTFUL else "exact", measures(pair), pair["removed"])
            for pair in self.rows
        ), self.total)


def row_id(pair: Row) -> RowId:
    """The row id of a row of a table: of the sample that is the duplicate, or of a member of a class."""
    return pair["shard_id"], pair["row"]


def partner_id(pair: Row) -> RowId:
    """The row id of the preferred sample of a pair."""
    return pair["of_shard_id"], pair["of_row"]


def measures(pair: Row) -> str:
    """How alike the samples of a pair are, in words."""
    if pair["kind"] in EXACT:
        return EXACT[pair["kind"]]
    if pair["kind"] == "semantic":
        return f"cosine {pair['cosine']:.3f} within its class"
    words = f"hamming {pair['hamming']}, correlation {pair['correlation']:.3f}"
    return words if pair["cosine"] is None else f"{words}, cosine {pair['cosine']:.2f}"


def find_pairs(plan: Plan, rows: Iterable[RowId]) -> DuplicatePairs:
    """The pairs most worth a look: near ones that remove a sample, the least alike first, then semantic ones likewise and a few
    exact ones.

    `rows`: removed samples whose measures are asked for. The tables are read batch by batch.
    """
    requested, measured = set(rows), dict[RowId, str]()
    shards = pa.array(sorted({shard_id for shard_id, _ in requested}), pa.string())
    total, exact, doubtful = 0, list[Row](), dict[str, list[Row]]()
    for batch in _batches(plan):
        total += batch.num_rows
        of_kind = {kind: batch.filter(pc.equal(batch.column("kind"), kind)) for kind in DOUBTFUL}
        for kind, pairs in of_kind.items():
            first = pairs.sort_by([("removed", "descending"), (DOUBTFUL[kind], "ascending")]).slice(0, LIMITS["pairs"])
            doubtful[kind] = heapq.nsmallest(LIMITS["pairs"], [*doubtful.get(kind, []), *first.to_pylist()], key=_doubt)
        certain = batch.filter(pc.is_in(batch.column("kind"), pa.array(EXACT)))
        exact = [*exact, *certain.slice(0, LIMITS["pairs"]).to_pylist()][: LIMITS["pairs"]]
        requested_pairs = batch.filter(pc.and_(batch.column("removed"), pc.is_in(batch.column("shard_id"), shards)))
        measured.update({row_id(pair): measures(pair) for pair in requested_pairs.to_pylist() if row_id(pair) in requested})
    return DuplicatePairs(tuple(_shown(exact, doubtful.get("near", []), doubtful.get("semantic", []))), total, measured)


def _batches(plan: Plan) -> Iterator[pa.RecordBatch]:
    """The tables of pairs, some rows at a time."""
    for path in pair_tables(plan):
        with plan.root.open(path) as file:
            yield from pq.ParquetFile(file).iter_batches(BATCH, use_threads=False)


def _shown(exact: Sequence[Row], near: Sequence[Row], semantic: Sequence[Row]) -> list[Row]:
    """Near pairs, and some of the others; more of these where there are few near ones."""
    semantic = semantic[: max(LIMITS["pairs"] // 4, LIMITS["pairs"] - len(near) - min(len(exact), EXACT_SHOWN))]
    room = LIMITS["pairs"] - len(semantic)
    exact_count = max(EXACT_SHOWN, room - len(near))
    return [*near[: room - min(exact_count, len(exact))], *semantic, *exact[:exact_count]]


def _doubt(pair: Row) -> tuple[Any, ...]:
    return not pair["removed"], pair[DOUBTFUL[pair["kind"]]], row_id(pair), partner_id(pair)


@dataclass(frozen=True)
class LargestClasses:
    """The largest classes as the table has them, and the labels counted over the scanned shards."""

    rows: tuple[Row, ...] = ()
    total: int = 0
    labelled: Mapping[int, int] | None = None
    """Samples that carry a class among their labels; None where not every shard was counted."""
    weights: Mapping[int, float] | None = None
    parents: Mapping[int, str] = field(default_factory=dict)
    """Name of the class one level up, by its id."""
    facts: tuple[tuple[str, str], ...] = ()
    confusable: tuple[Confusable, ...] = ()

    @property
    def row_ids(self) -> list[RowId]:
        """The rows whose pictures the cards need."""
        return [row_id(member) for row in self.rows for member in (*row["exemplars"], *row["outliers"])]

    def cards(self, pictures: Pictures) -> Top[ClassCard]:
        """The classes with the pictures of their exemplars and outliers, the largest first."""
        return Top(tuple(self._card(row, pictures) for row in self.rows), self.total)

    def _card(self, row: Row, pictures: Pictures) -> ClassCard:
        class_id = row["class_id"]
        return ClassCard(
            class_id, row["name"], row["named"], row["size"], row["mean_similarity"],
            tuple(ClassEntity(entity["name"], entity["lift"]) for entity in row["entities"]),
            tuple(pictures.picture(row_id(member)) for member in row["exemplars"]),
            tuple(pictures.picture(row_id(member)) for member in row["outliers"]),
            row["confidence"], self.parents.get(row["parent"]),
            None if self.labelled is None else self.labelled[class_id],
            None if self.weights is None else self.weights.get(class_id),
        )


def find_classes(plan: Plan, scanned: Sequence[Shard]) -> LargestClasses:
    """The largest classes of the finest level with their labels counted over the scanned shards; an empty value where the root
    has no classes."""
    if not has_class_table(plan.root, plan.classes):
        return LargestClasses()
    folder = plan.fitted.classes
    sizes = stored_class_table(plan.root, folder, ["class_id", "size", "level"], level=0)
    largest = sizes.sort_by([("size", "descending"), ("class_id", "ascending")]).slice(0, LIMITS["classes"])
    order = largest.column("class_id").to_pylist()
    table = stored_class_table(plan.root, folder, level=0, filters=pc.field("class_id").isin(order))
    rows = {row["class_id"]: row for row in table.to_pylist()}
    for row in rows.values():
        row["exemplars"] = row["exemplars"][: LIMITS["exemplars"]]
        row["outliers"] = row["outliers"][: LIMITS["outliers"]]
    labels, weights = count_labels(plan, scanned, pc.max(sizes.column("class_id")).as_py() + 1 if sizes.num_rows else 0)
    complete = len(scanned) == len(plan.shards)
    return LargestClasses(
        tuple(rows[number] for number in order), sizes.num_rows,
        {number: int(labels[number]) for number in order} if complete else None,
        {number: float(weights[number] / labels[number]) for number in order if labels[number]},
        class_names(plan.root, folder, level=1),
        *quality_of(plan),
    )


def quality_of(plan: Plan) -> tuple[tuple[tuple[str, str], ...], tuple[Confusable, ...]]:
    """The facts about all classes, and the pairs of classes that are easily taken for each other."""
    quality = stored_quality(plan.root, plan.fitted.classes)
    ids = [id for pair in quality.get("confusable", {}).get("pairs", ()) for id in pair["classes"]]
    names = class_names(plan.root, plan.fitted.classes, filters=pc.field("class_id").isin(ids))
    return tuple(class_facts(quality)), tuple(confusable(quality, names))


def count_labels(plan: Plan, scanned: Sequence[Shard], classes: int) -> tuple[Any, Any]:
    """int64 and float64 [classes], by class id: samples that have each class among their labels, and the sum of its weights."""
    count, weight = np.zeros(classes, np.int64), np.zeros(classes)
    for shard in scanned if plan.labels is not None else ():
        table = read_columns(plan.root, plan.fitted.labels, shard.shard_id, ["labels", "label_weights"])
        ids, weights = (np.asarray(pc.list_flatten(table.column(name))) for name in table.column_names)
        count += np.bincount(ids, minlength=classes)
        weight += np.bincount(ids, weights.astype(np.float64), minlength=classes)
    return count, weight


@dataclass(frozen=True)
class FrequentEntities:
    """The most frequent entities (id, name, count, mean_z), and where each has its highest z in the scanned shards."""

    rows: tuple[Row, ...] = ()
    total: int = 0
    best: Mapping[str, tuple[float, RowId]] = field(default_factory=dict)

    @property
    def row_ids(self) -> list[RowId]:
        """The rows whose pictures the cards need."""
        return [row for _, row in self.best.values()]

    def cards(self, pictures: Pictures) -> Top[EntityRow]:
        """The entities with the picture of their best example, the most frequent first."""
        return Top(tuple(
            EntityRow(row["id"], row["name"], row["count"], row["mean_z"],
                      pictures.picture(self.best[row["id"]][1]) if row["id"] in self.best else None)
            for row in self.rows
        ), self.total)


def find_entities(plan: Plan, scanned: Sequence[Shard]) -> FrequentEntities:
    """The most frequent entities of the run, and in the scanned shards the sample in which each has its highest z."""
    counts = read_table(plan.root, f"{plan.counts}/counts.parquet")
    counts = counts.filter(pc.greater_equal(counts.column("count"), plan.recipe.entities.min_count))
    top = counts.sort_by([("count", "descending"), ("id", "ascending")]).slice(0, LIMITS["entities"])
    best: dict[str, tuple[float, RowId]] = {}
    for shard in scanned:
        column = read_columns(plan.root, plan.columns.folders["entities"], shard.shard_id, ["entities"]).column("entities")
        for id, z, row in highest(column.combine_chunks(), top.column("id").combine_chunks()):
            if id not in best or z > best[id][0]:
                best[id] = z, (shard.shard_id, row)
    return FrequentEntities(tuple(top.to_pylist()), counts.num_rows, best)


def highest(entities: pa.ListArray, ids: pa.StringArray) -> Iterator[tuple[str, float, int]]:
    """(id, z, row) of each of these entities that is confirmed in a shard: the row in which its z is highest, the first of equal
    ones. `entities` is the column list<ENTITY> [rows], `ids` string [m]."""
    flat = pc.list_flatten(entities)
    named = {name: pc.struct_field(flat, name) for name in ("id", "z", "confirmed")}
    table = pa.table({"row": pc.list_parent_indices(entities), **named})
    table = table.filter(pc.and_(table.column("confirmed"), pc.is_in(table.column("id"), ids)))
    best: dict[str, tuple[str, float, int]] = {}
    for entity in table.sort_by([("z", "descending"), ("row", "ascending")]).to_pylist():
        best.setdefault(entity["id"], (entity["id"], entity["z"], entity["row"]))
    yield from best.values()
