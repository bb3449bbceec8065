"""Entities over a run: the calibration by which they are confirmed, and the counts behind the cut of rare ones."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.columns import Columns, Run, RunShard, bundles, matrix_of, shard_ids_of
from pipeline.driver import Driver
from pipeline.entities.aliases import AliasIndex, build
from pipeline.entities.calibration import Settings, entity_counts, entity_sums, entity_table, with_threshold
from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.entities.known_texts import stored_vectors
from pipeline.entities.linking import mentions_of
from pipeline.entities.table import EntityTable
from pipeline.passes.embeddings import Embedded
from pipeline.plan import Plan
from pipeline.reduce.describe.lift import Vocabulary
from pipeline.shuffle.drawn import Drawing
from pipeline.shuffle.exchange import Group, GroupWork, groups_of
from pipeline.stage import digest
from pipeline.store.blocks.several import columns_of
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import npy_bytes, read_npy, read_table, stored_shards, write_table
from pipeline.timing.bottleneck import MODEL, Means
from pipeline.timing.clock import WRITE, spent
from pipeline.vectors import Bools, Ints, unit
from pipeline.work import Facts, Place, Units, Work
from schemas.columns import MENTIONS

if TYPE_CHECKING:
    from pipeline.models.clip import Embedder
    from pipeline.stages.clip import ClipStage

CALIBRATED_ON = 20_000
"""Samples whose shuffled mentions give the null distribution: beyond that its quantiles no longer move."""
EMBEDDING = "image_embedding"
TEXTS = 1024
"""Texts per item of work."""


@dataclass(frozen=True)
class Texts:
    """Some texts and the file for their embeddings; the name is their content's, so a rerun finds it."""

    path: str
    texts: tuple[str, ...]

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class EmbedTexts(Work[Texts]):
    """Embeds texts on workers, by the same model and route as the captions."""

    store: Store
    stage: "ClipStage"

    @property
    def place(self) -> Place:
        return Place.MODEL

    def means(self) -> Means:
        return Means.by_route([self.stage.route])

    @property
    def units(self) -> Units:
        return Units(row="text")

    def rows_of(self, item: Texts) -> int:
        return len(item.texts)

    @contextmanager
    def open(self) -> Iterator[Callable[[Texts], Facts]]:
        from pipeline.models.clip import open_encoder
        from pipeline.models.process import prepare_process  # they bring torch, which only a worker needs

        prepare_process()
        with open_encoder(self.stage.spec, self.stage.route, self.stage.micro_batch) as embedder:
            yield lambda item: self._run(item, embedder)

    def _run(self, item: Texts, embedder: "Embedder") -> Facts:
        with spent(MODEL):
            vectors = embedder.encode_texts(item.texts)
        with spent(WRITE):
            self.store.write(item.path, npy_bytes(vectors))
        return {"rows": len(item.texts)}


def calibrate_entities(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes the entity table that the entities stage reads: the senses of every alias mentioned in this run, embedded, and
    the threshold from the run's own shuffled pairs (design decision 12). Workers read the rows; the driver holds those that are
    drawn, and what the knowledge base knows of. Entities that the root already has a table of are not embedded again."""
    folder, groups = plan.calibration, groups_of(run.rows)
    name = folder.rpartition("/")[2]
    # In the making, so none of the files that are promised: a worker that outlives its run may write there at any time.
    texts_folder, aliases_folder = f"{PARTIAL}/{name}-texts", f"{PARTIAL}/{name}-aliases-{len(groups)}"
    behind, calibrated = (Drawing(driver, f"{name}-{what}", groups) for what in ("background", "calibrated"))
    if not plan.root.exists(f"{folder}/calibration.json"):
        settings, seed = plan.recipe.entities, plan.recipe.seed
        base = KnowledgeBase.load(settings.knowledge_base)
        index = build(base)
        background = embeddings_of(behind.drawn(Embedded(plan.columns), settings.background, seed), plan)

        def encode(texts: Sequence[str]) -> NDArray[np.float32]:
            return embedded_texts(plan, driver, texts_folder, texts)

        write_aliases(run, driver, groups, aliases_folder)
        aliases = known_aliases(index, (read_table(plan.root, f"{aliases_folder}/{group}.parquet") for group in groups))
        texts = digest(["entity texts", plan.versions["calibration"], plan.clip.identity, base.sha256])
        others = [f"tables/{other}" for other in plan.root.folders("tables") if other.startswith("calibration@")]
        known = partial(stored_vectors, plan.root, others, texts)
        table = replace(entity_table(base, index, aliases, encode, background, known), texts=texts)
        rows = calibrated.drawn(Mentioning(plan.columns), CALIBRATED_ON, seed + 1)
        mentions = rows.column("mentions") if rows is not None else pa.chunked_array([], MENTIONS.field("mentions").type)
        rules = Settings(settings.false_positive_rate, settings.background, seed)
        sampled_mentions = mentions_of(mentions, np.ones(len(mentions), bool))
        with_threshold(table, sampled_mentions, embeddings_of(rows, plan), rules).save(plan.root, folder)
    for leftover in (texts_folder, aliases_folder, behind.folder, calibrated.folder):
        plan.root.remove(leftover)


@dataclass(frozen=True)
class Mentioning(Embedded):
    """The image embeddings of the samples whose captions mention something, with the mentions."""

    def eligible(self, shards: Sequence[RunShard]) -> Bools:
        return super().eligible(shards) & mentions_something(stored_mentions(self.columns, shards))

    def fetched(self, shards: Sequence[RunShard], rows: Ints) -> pa.Table:
        mentions = stored_mentions(self.columns, shards).take(pa.array(rows))
        return super().fetched(shards, rows).append_column("mentions", mentions)


def embeddings_of(table: pa.Table | None, plan: Plan) -> NDArray[np.float16]:
    """float16 [rows, d] of rows that were drawn."""
    return np.zeros((0, plan.clip.description.dimension), np.float16) if table is None else matrix_of(table.column(EMBEDDING))


def embedded_texts(plan: Plan, driver: Driver, folder: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """float32 [texts, d], unit rows in the order of `texts`, computed by the executor's workers. `folder`: of the store, for the
    items that an earlier run has done."""
    stage = plan.clip
    chunks = [tuple(texts[i : i + TEXTS]) for i in range(0, len(texts), TEXTS)]
    items = [Texts(f"{folder}/{digest(chunk, 32)}.npy", chunk) for chunk in chunks]
    stored = {f"{folder}/{name}" for name in plan.root.names(folder)}
    driver.complete("entity texts", EmbedTexts(plan.root, stage), items, stored)
    parts = [np.asarray(read_npy(plan.root, item.path)) for item in items]
    return np.concatenate(parts) if parts else np.zeros((0, stage.description.dimension), np.float32)


def mentioned_aliases(mentions: pa.ChunkedArray) -> list[str]:
    """The distinct aliases, sorted."""
    aliases = [pc.struct_field(pc.list_flatten(chunk), "alias").unique() for chunk in mentions.chunks]
    return sorted({alias for chunk in aliases for alias in chunk.to_pylist()})


def stored_mentions(columns: Columns, shards: Sequence[RunShard]) -> pa.ChunkedArray:
    """The mentions of some shards."""
    return columns_of(columns.store, columns.folders["mentions"], shard_ids_of(shards), ["mentions"]).column("mentions")


def mentions_something(mentions: pa.ChunkedArray) -> Bools:
    """bool [rows]: the caption mentions something."""
    return np.asarray(pc.greater(pc.fill_null(pc.list_value_length(mentions), 0), 0), bool)


def known_aliases(index: AliasIndex, parts: Iterable[pa.Table]) -> list[str]:
    """The aliases of the parts that have a sense: what a recogniser alone took for a name may be as many as there are captions."""
    return sorted({alias for part in parts for alias in part.column("alias").to_pylist() if alias in index.senses})


def write_aliases(run: Run, driver: Driver, groups: Sequence[Group], folder: str) -> None:
    """Writes the distinct aliases of each group of shards."""
    stored = stored_shards(run.columns.store, [folder])
    driver.complete("aliases", Aliases(run.columns, folder), groups, stored, alone=len(groups) == 1)


@dataclass(frozen=True)
class OfGroup(GroupWork):
    """Writes a table about the shards of one group."""

    columns: Columns
    folder: str

    def run(self, item: Group) -> Facts:
        write_table(self.columns.store, f"{self.folder}/{item}.parquet", self.table(item), {"rows": item.rows})
        return {"rows": item.rows}

    @abstractmethod
    def table(self, group: Group) -> pa.Table: ...


@dataclass(frozen=True)
class Aliases(OfGroup):
    """The distinct aliases that captions mention."""

    def table(self, group: Group) -> pa.Table:
        aliases = {alias for shards in bundles(group.shards) for alias in mentioned_aliases(stored_mentions(self.columns, shards))}
        return pa.table({"alias": pa.array(sorted(aliases), pa.string())})


@dataclass(frozen=True)
class EntitySums(OfGroup):
    """In how many samples each entity is confirmed."""

    def table(self, group: Group) -> pa.Table:
        store, folder = self.columns.store, self.columns.folders["entities"]
        tables = (columns_of(store, folder, shard_ids_of(shards), ["entities"]) for shards in bundles(group.shards))
        return entity_sums(table.column("entities") for table in tables)


def count_entities(plan: Plan, run: Run, driver: Driver) -> None:
    """`counts.parquet`: in how many samples each entity is confirmed. The cut of rare entities (MOFI's n_min) reads it."""
    path, groups = f"{plan.counts}/counts.parquet", groups_of(run.rows)
    folder = f"{PARTIAL}/{plan.counts.rpartition('/')[2]}-sums-{len(groups)}"
    if not plan.root.exists(path):
        stored = stored_shards(plan.root, [folder])
        driver.complete("entities", EntitySums(plan.columns, folder), groups, stored, alone=len(groups) == 1)
        parts = (read_table(plan.root, f"{folder}/{group}.parquet") for group in groups)
        write_table(plan.root, path, entity_counts(parts), {"rows": run.rows.total})
    plan.root.remove(folder)


def linked_entities(plan: Plan, shard_ids: Sequence[str], rows: NDArray[np.int64]) -> list[tuple[str, ...]]:
    """The linked entity ids of these rows of some shards, confirmed or not: a class is named by what many captions say together,
    and over many samples a single image's doubt matters less than silence (half of the classes would have no name)."""
    column = columns_of(plan.root, plan.columns.folders["entities"], shard_ids, ["entities"]).column("entities")
    return [tuple(entity["id"] for entity in row or ()) for row in column.take(pa.array(rows)).to_pylist()]


def vocabulary(plan: Plan) -> Vocabulary:
    """Names and hypernyms of the knowledge base, and the texts of the entities that the run mentions, for naming classes."""
    base = KnowledgeBase.load(plan.recipe.entities.knowledge_base)
    table = EntityTable.load(plan.root, plan.calibration)
    texts = {id: unit(table.confirming.embeddings[row : row + 1])[0] for row, id in enumerate(table.ids)}
    names = {id: base.name(row) for row, id in enumerate(base.ids)}
    return Vocabulary(hypernyms(plan), names, texts)


def hypernyms(plan: Plan) -> dict[str, Sequence[str]]:
    """The ids above each entity in the knowledge base, by its id."""
    base = KnowledgeBase.load(plan.recipe.entities.knowledge_base)
    return dict(zip(base.ids, base.hypernyms, strict=True))
