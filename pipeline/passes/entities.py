"""Entities over a run: the calibration by which they are confirmed, and the counts behind the cut of rare ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.columns import Run
from pipeline.draws import sampled
from pipeline.driver import Driver
from pipeline.entities.aliases import build
from pipeline.entities.calibration import Settings, entity_counts, entity_table, with_threshold
from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.entities.known_texts import stored_vectors
from pipeline.entities.linking import mentions_of
from pipeline.entities.table import EntityTable
from pipeline.plan import Plan
from pipeline.reduce.describe.lift import Vocabulary
from pipeline.stage import digest
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import npy_bytes, read_columns, read_npy, write_table
from pipeline.timing.bottleneck import MODEL, Means
from pipeline.timing.clock import WRITE, spent
from pipeline.vectors import unit
from pipeline.work import Facts, Place, Units, Work

if TYPE_CHECKING:
    from pipeline.models.clip import Embedder
    from pipeline.stages.clip import ClipStage

CALIBRATED_ON = 20_000
"""Samples whose shuffled mentions give the null distribution: beyond that its quantiles no longer move."""
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
    the threshold from the run's own shuffled pairs (design decision 12). Entities that the root already has a table of are not
    embedded again."""
    folder = plan.calibration
    # In the making, so none of the files that are promised: a worker that outlives its run may write there at any time.
    texts_folder = f"{PARTIAL}/{folder.rpartition('/')[2]}-texts"
    if plan.root.exists(f"{folder}/calibration.json"):
        plan.root.remove(texts_folder)
        return
    settings, seed = plan.recipe.entities, plan.recipe.seed
    base = KnowledgeBase.load(settings.knowledge_base)
    valid = np.asarray(run.table("clip", ["image_embedding_valid"]).column("image_embedding_valid"))
    background = run.vectors("image_embedding", sampled(np.flatnonzero(valid), settings.background, seed))
    aliases, mentions_something = mentioned(run)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return embedded_texts(plan, driver, texts_folder, texts)

    texts = digest(["entity texts", plan.versions["calibration"], plan.clip.identity, base.sha256])
    others = [f"tables/{name}" for name in plan.root.folders("tables") if name.startswith("calibration@")]
    known = partial(stored_vectors, plan.root, others, texts)
    table = replace(entity_table(base, build(base), aliases, encode, background, known), texts=texts)
    rows = sampled(np.flatnonzero(valid & mentions_something), CALIBRATED_ON, seed + 1)
    sampled_mentions = mentions_of(run.table_rows("mentions", ["mentions"], rows).column("mentions"), np.ones(len(rows), bool))
    rules = Settings(settings.false_positive_rate, settings.background, seed)
    with_threshold(table, sampled_mentions, run.vectors("image_embedding", rows), rules).save(plan.root, folder)
    plan.root.remove(texts_folder)


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


def mentioned(run: Run) -> tuple[list[str], NDArray[np.bool_]]:
    """The distinct aliases of the run, sorted, and bool [rows]: the caption mentions something. One shard's mentions are held at a
    time."""
    aliases, parts = set[str](), []
    for shard_id in run.rows.shard_ids:
        folder = run.columns.folders["mentions"]
        mentions = read_columns(run.columns.store, folder, shard_id, ["mentions"]).column("mentions")
        aliases.update(mentioned_aliases(mentions))
        parts.append(np.asarray(pc.greater(pc.fill_null(pc.list_value_length(mentions), 0), 0)))
    return sorted(aliases), np.concatenate(parts) if parts else np.zeros(0, bool)


def count_entities(plan: Plan, run: Run) -> None:
    """`counts.parquet`: in how many samples each entity is confirmed. The cut of rare entities (MOFI's n_min) reads it."""
    path = f"{plan.counts}/counts.parquet"
    if plan.root.exists(path):
        return
    store, folder = run.columns.store, run.columns.folders["entities"]
    columns = (read_columns(store, folder, s, ["entities"]).column("entities") for s in run.rows.shard_ids)
    write_table(plan.root, path, entity_counts(columns), {"rows": run.rows.total})


def linked_entities(plan: Plan, shard_id: str, rows: NDArray[np.int64]) -> list[tuple[str, ...]]:
    """The linked entity ids of these rows of a shard, confirmed or not: a class is named by what many captions say together,
    and over many samples a single image's doubt matters less than silence (half of the classes would have no name)."""
    column = read_columns(plan.root, plan.columns.folders["entities"], shard_id, ["entities"]).column("entities")
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
