"""Labels of every kept sample, and what the samples say of the classes: one pass over the stored embeddings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.columns import Run, RunShard, ShardWork
from pipeline.draws import uids_below
from pipeline.driver import Driver
from pipeline.passes.embeddings import kept_embeddings, sampled_embeddings
from pipeline.passes.entities import hypernyms, linked_entities
from pipeline.plan import Plan
from pipeline.reduce.classes import taxonomy
from pipeline.reduce.classes.label_tables import Naming, label_table
from pipeline.reduce.classes.labels import NONE, LabelRule, Labels, labelled
from pipeline.reduce.classes.temperature import DEFAULT, calibrated
from pipeline.reduce.describe import quality, tallies
from pipeline.reduce.describe.lift import NamingRule
from pipeline.reduce.describe.presence import class_counts, presence
from pipeline.search.inverted_file import EXACT, LEAST, Search, gated
from pipeline.search.nearest import Centres, nearest
from pipeline.select.stored import kept_rows, stored_ledger
from pipeline.store.tables import read_columns, read_vector_rows, stored_shards, write_shard_table
from pipeline.vectors import Floats, unit
from pipeline.work import Facts, Place, PlainWork, Units

Nearest = tuple[NDArray[np.int32], Floats]
"""Classes of n rows by position, best first, and the cosines to them."""
SEARCH = "search.json"
MEASURED_ON = 10_000
"""Samples that the search and the temperature are measured on, about."""
PAIRS_ON = 1_000_000
"""Samples that the pairs of easily mistaken classes are counted on, about."""


def label(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes `plan.labels` and `plan.tallies`; nothing when the recipe asks for no classes."""
    if plan.labels is None or plan.tallies is None:
        return
    if not plan.root.exists(f"{plan.labels}/{SEARCH}"):
        driver.must("label search", Measure(plan.without_inputs(), run.rows.shard_ids), [SEARCH])
    work = Label(plan.without_inputs(), counting(plan))
    driver.complete("label", work, run.rows.shards, stored_shards(plan.root, [plan.labels, plan.tallies]))


def class_count(plan: Plan) -> int:
    """Of the fit, which may have fewer than the recipe asks for."""
    return int(plan.root.read_json(f"{plan.centroids}/{taxonomy.FIT}")["k"])


def searching_place(plan: Plan) -> Place:
    """A GPU for classes by the ten thousands; fewer are searched before a shard is read and written."""
    return Place.GPU if class_count(plan) >= LEAST else Place.CPU


def counting(plan: Plan) -> quality.Counting:
    """What the tallies count."""
    kept = stored_ledger(plan.root, plan.selected).kept
    return quality.Counting(class_count(plan), share=min(1.0, PAIRS_ON / max(1, kept)), seed=plan.recipe.seed)


def label_rule(plan: Plan) -> LabelRule:
    """How many classes a sample gets and with which weights, by the recipe and by what was measured on a sample."""
    settings = plan.recipe.classes
    measured = plan.root.read_json(f"{plan.labels}/{SEARCH}")
    return LabelRule(settings.labels, settings.floor, float(measured["weights"]["temperature"]))


def search_of(plan: Plan) -> Search:
    """How the nearest classes are searched, as it was measured on a sample."""
    record = plan.root.read_json(f"{plan.labels}/{SEARCH}")["search"]
    return Search(**{**record, "tried": tuple((probes, recall) for probes, recall in record["tried"])})


def first_labels(plan: Plan, shard_id: str, share: float) -> pa.Table:
    """`row` in the shard (int64), `uid` (string) and `label` (int32, the nearest class by its stable id) of a shard's labelled
    samples, or of about a `share` of them, which goes by uid: so it is the same in every root."""
    table = read_columns(plan.root, plan.fitted.labels, shard_id, ["uid", "labels"])
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    labelled = table.filter(pc.and_(table.column("labels").is_valid(), pc.less(table.column("uid"), uids_below(share))))
    label = pc.list_element(labelled.column("labels"), 0) if labelled.num_rows else pa.array([], pa.int32())
    return pa.table({"row": labelled.column("row"), "uid": labelled.column("uid"), "label": label})


@dataclass(frozen=True)
class Measure(PlainWork[str]):
    """Writes how labels are searched and weighed, from a sample of the labelled rows. One item, on a worker."""

    plan: Plan
    shard_ids: tuple[str, ...]

    @property
    def place(self) -> Place:
        return searching_place(self.plan)

    @property
    def units(self) -> Units:
        return Units()

    def run(self, item: str) -> Facts:
        plan, settings = self.plan, self.plan.recipe.classes
        centroids = np.asarray(taxonomy.read_levels(plan.root, plan.fitted.centroids)[0].centroids)
        rows = sampled_embeddings(kept_embeddings(plan, self.shard_ids), MEASURED_ON, plan.recipe.seed)
        search, weight = EXACT, {"temperature": settings.temperature}
        if len(rows) and len(centroids):
            if settings.search == "auto" and not plan.route.startswith("cuda-"):   # a GPU compares with all of them
                search = gated(centroids, rows, min(settings.labels, len(centroids)), bound=settings.recall, seed=plan.recipe.seed)
            if settings.temperature == "auto":
                weight = asdict(calibrated(rows, centroids, settings.labels, plan.recipe.seed))
        elif settings.temperature == "auto":
            weight = {"temperature": DEFAULT}
        plan.root.write_json(f"{plan.labels}/{SEARCH}", {"search": search.record(), "weights": weight})
        return {}


@dataclass(frozen=True)
class Opened:
    """What labelling one shard after another needs."""

    centres: Centres | NDArray[np.float32]
    naming: Naming
    rule: LabelRule
    parents: dict[str, Sequence[str]]


@dataclass(frozen=True)
class Label(ShardWork):
    """Writes the labels of one shard's kept samples, and what they say of the classes."""

    plan: Plan
    counting: quality.Counting

    @property
    def place(self) -> Place:
        return searching_place(self.plan)

    @contextmanager
    def open(self) -> Iterator[Callable[[RunShard], Facts]]:
        plan = self.plan
        levels = taxonomy.read_levels(plan.root, plan.fitted.centroids)
        naming = Naming(levels[0].ids, taxonomy.ancestors(levels))
        centroids = levels[0].centroids
        centres = search_of(plan).centres(centroids) if len(centroids) else centroids   # no classes: no sample was kept
        opened = Opened(centres, naming, label_rule(plan), hypernyms(plan))
        yield lambda item: self._run(item, opened)

    def _run(self, item: RunShard, opened: Opened) -> Facts:
        plan, store, shard_id = self.plan, self.plan.root, item.shard_id
        clip = plan.columns.folders["clip"]
        kept = kept_rows(store, plan.selected, shard_id).astype(np.int64)
        uid: pa.Array = read_columns(store, clip, shard_id, ["uid"]).column("uid").combine_chunks()
        labels = NONE
        if len(kept):
            rows = unit(read_vector_rows(store, clip, shard_id, "image_embedding", kept))
            labels = labelled(rows, opened.centres, opened.rule)
            self._tally(item, kept, self._two_nearest(rows, labels, opened), opened)
        else:
            width = min(2, max(1, self.counting.k))
            self._tally(item, kept, (np.zeros((0, width), np.int32), np.zeros((0, width), np.float32)), opened)
        facts = {"rows": len(uid), "labelled": len(kept)}
        write_shard_table(store, f"{plan.labels}/{shard_id}.parquet", label_table(uid, labels, kept, opened.naming), facts)
        return {"rows": len(uid)}

    def _two_nearest(self, rows: Floats, labels: Labels, opened: Opened) -> Nearest:
        """Of labels that are one class per sample, the runner-up is asked for."""
        if labels.ids.shape[1] >= min(2, self.counting.k):
            return labels.ids, labels.similarity
        return nearest(rows, opened.centres, 2)

    def _tally(self, item: RunShard, kept: NDArray[np.int64], classes: Nearest, opened: Opened) -> None:
        """Writes what the kept rows of a shard say: their nearest classes, and their linked entities."""
        plan, (shard_id, first_row, _), (ids, cosines) = self.plan, item, classes
        entities = presence(linked_entities(plan, shard_id, kept), opened.parents, NamingRule().levels)
        tallies.write_tally(
            plan.root, f"{plan.tallies}/{shard_id}.parquet", quality.tally(self.counting, first_row + kept, ids, cosines),
            class_counts(entities, ids[:, 0], self.counting.k))
