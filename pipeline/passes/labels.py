"""Labels of every kept sample, and what the samples say of the classes: one pass over the stored embeddings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.columns import Run, RunShard, ShardWork, shard_ids_of
from pipeline.draws import uids_below
from pipeline.driver import Driver
from pipeline.passes.embeddings import embeddings_at, kept_embeddings, sampled_embeddings
from pipeline.passes.entities import hypernyms, linked_entities
from pipeline.plan import Plan
from pipeline.reduce.classes import taxonomy
from pipeline.reduce.classes.label_tables import Naming, label_table
from pipeline.reduce.classes.labels import NONE, LabelRule, Labels, labelled
from pipeline.reduce.classes.temperature import DEFAULT, calibrated
from pipeline.reduce.describe import quality, tallies
from pipeline.reduce.describe.lift import NamingRule
from pipeline.reduce.describe.presence import Counts, class_counts, presence
from pipeline.search.inverted_file import EXACT, LEAST, Search, gated
from pipeline.search.nearest import Centres, nearest
from pipeline.select.stored import kept_rows, stored_ledger
from pipeline.store.blocks.several import columns_of, write_tables
from pipeline.store.blocks.writing import Said
from pipeline.store.tables import read_columns, stored_shards
from pipeline.vectors import Floats, Ints, unit
from pipeline.work import Facts, Place, PlainWork, Units, WorkTogether

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
        driver.must("label search", Measure(plan.without_inputs(), run.rows.shards), [SEARCH])
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
    shards: tuple[RunShard, ...]

    @property
    def place(self) -> Place:
        return searching_place(self.plan)

    @property
    def units(self) -> Units:
        return Units()

    def run(self, item: str) -> Facts:
        plan, settings = self.plan, self.plan.recipe.classes
        centroids = np.asarray(taxonomy.read_levels(plan.root, plan.fitted.centroids)[0].centroids)
        rows = sampled_embeddings(kept_embeddings(plan, self.shards), MEASURED_ON, plan.recipe.seed)
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
class Label(WorkTogether[RunShard], ShardWork):
    """Writes the labels of the kept samples of a shard, or of several small ones at once, and what they say of the classes."""

    plan: Plan
    counting: quality.Counting

    @property
    def place(self) -> Place:
        return searching_place(self.plan)

    @contextmanager
    def open_together(self) -> Iterator[Callable[[Sequence[RunShard]], list[Facts]]]:
        plan = self.plan
        levels = taxonomy.read_levels(plan.root, plan.fitted.centroids)
        naming = Naming(levels[0].ids, taxonomy.ancestors(levels))
        centroids = levels[0].centroids
        centres = search_of(plan).centres(centroids) if len(centroids) else centroids   # no classes: no sample was kept
        opened = Opened(centres, naming, label_rule(plan), hypernyms(plan))
        yield lambda items: self._run(items, opened)

    def _run(self, items: Sequence[RunShard], opened: Opened) -> list[Facts]:
        plan, store, ids = self.plan, self.plan.root, shard_ids_of(items)
        clip = plan.columns.folders["clip"]
        kept = kept_rows(store, plan.selected, *ids).astype(np.int64)
        uid: pa.Array = columns_of(store, clip, ids, ["uid"]).column("uid").combine_chunks()
        width = min(2, max(1, self.counting.k))
        labels, classes = NONE, (np.zeros((0, width), np.int32), np.zeros((0, width), np.float32))
        if len(kept):
            rows = unit(embeddings_at(store, clip, items, "image_embedding", kept))
            labels = labelled(rows, opened.centres, opened.rule)
            classes = self._two_nearest(rows, labels, opened)
        ends = np.cumsum([shard.rows for shard in items])
        bounds = np.searchsorted(kept, [0, *ends])   # of the kept rows of each shard
        self._tally(items, kept, bounds, classes, opened)
        said = [Said(shard.shard_id, shard.rows, {"rows": shard.rows, "labelled": count})
                for shard, count in zip(items, np.diff(bounds).tolist(), strict=True)]
        write_tables(store, plan.fitted.labels, said, label_table(uid, labels, kept, opened.naming))
        return [{"rows": shard.rows} for shard in items]

    def _two_nearest(self, rows: Floats, labels: Labels, opened: Opened) -> Nearest:
        """Of labels that are one class per sample, the runner-up is asked for."""
        if labels.ids.shape[1] >= min(2, self.counting.k):
            return labels.ids, labels.similarity
        return nearest(rows, opened.centres, 2)

    def _tally(self, items: Sequence[RunShard], kept: Ints, bounds: Ints, classes: Nearest, opened: Opened) -> None:
        """Writes what the kept rows of each shard say: their nearest classes, and their linked entities."""
        plan, (ids, cosines), start = self.plan, classes, 0
        linked, found = linked_entities(plan, shard_ids_of(items), kept), dict[str, tuple[quality.Tally, Counts]]()
        for shard, (first, last) in zip(items, pairwise(bounds.tolist()), strict=True):
            own = slice(first, last)
            entities = presence(linked[own], opened.parents, NamingRule().levels)
            found[shard.shard_id] = (
                quality.tally(self.counting, shard.first_row - start + kept[own], ids[own], cosines[own]),
                class_counts(entities, ids[own, 0], self.counting.k))
            start += shard.rows
        tallies.write_tallies(plan.root, plan.fitted.tallies, found)
