"""Labels of every kept sample, and what the samples say of the classes: one pass over the stored embeddings."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Run
from pipeline.driver import Driver
from pipeline.passes.classes import Embeddings, sample
from pipeline.passes.entities import hypernyms, linked_entities
from pipeline.plan import Plan
from pipeline.reduce.classes import labels
from pipeline.reduce.classes import stored as taxonomy
from pipeline.reduce.classes.label_tables import Naming, label_table
from pipeline.reduce.classes.labels import LabelRule
from pipeline.reduce.classes.temperature import DEFAULT, calibrated
from pipeline.reduce.describe import quality, tallies
from pipeline.reduce.describe.lift import NamingRule
from pipeline.reduce.describe.presence import class_counts, presence
from pipeline.search.inverted_file import EXACT, LEAST, Search, gated
from pipeline.search.nearest import Centres, nearest
from pipeline.select.stored import kept_rows
from pipeline.store.tables import read_columns, read_vectors, stored_shards, write_table
from pipeline.vectors import Floats, unit
from pipeline.work import Facts, Place, Work

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
    shard_ids = run.rows.shard_ids
    if not plan.root.exists(f"{plan.labels}/{SEARCH}"):
        driver.must("label search", Measure(plan, shard_ids), [SEARCH])
    there = stored_shards(plan.root, [plan.labels, plan.tallies])
    offsets = run.rows.offsets
    todo = [(shard_id, int(offsets[i])) for i, shard_id in enumerate(shard_ids) if shard_id not in there]
    driver.must("label", Label(plan, counting(plan)), todo, there=len(shard_ids) - len(todo))


def searching_place(plan: Plan) -> Place:
    """A GPU for classes by the ten thousands; fewer are searched before a shard is read and written."""
    return Place.GPU if plan.root.read_json(f"{plan.centroids}/{taxonomy.FIT}")["k"] >= LEAST else Place.CPU


def counting(plan: Plan) -> quality.Counting:
    """What the tallies count."""
    k = plan.root.read_json(f"{plan.centroids}/{taxonomy.FIT}")["k"]
    kept = plan.root.read_json(f"{plan.verdicts}/ledger.json")["kept"]
    return quality.Counting(k, share=min(1.0, PAIRS_ON / max(1, kept)), seed=plan.recipe.seed)


def label_rule(plan: Plan) -> LabelRule:
    settings = plan.recipe.classes
    measured = plan.root.read_json(f"{plan.labels}/{SEARCH}")
    return LabelRule(settings.labels, settings.floor, float(measured["weights"]["temperature"]))


def search_of(plan: Plan) -> Search:
    found: dict[str, Any] = plan.root.read_json(f"{plan.labels}/{SEARCH}")["search"]
    return Search(**{**found, "tried": tuple((probes, recall) for probes, recall in found["tried"])})


@dataclass(frozen=True)
class Measure(Work[str]):
    """How labels are searched and weighed, from a sample of the labelled rows. One item, on a worker."""

    plan: Plan
    shard_ids: tuple[str, ...]

    @property
    def place(self) -> Place:
        return searching_place(self.plan)

    def name(self, item: str) -> str:
        return item

    @contextmanager
    def open(self) -> Iterator[Callable[[str], Facts]]:
        yield self._run

    def _run(self, _: str) -> Facts:
        plan, settings = self.plan, self.plan.recipe.classes
        centroids = np.asarray(taxonomy.read_levels(plan.root, plan.fitted.centroids)[0].centroids)
        blocks = [Embeddings(plan.root, plan.columns.folders["clip"], shard_id, plan.verdicts) for shard_id in self.shard_ids]
        rows = sample(blocks, MEASURED_ON, plan.recipe.seed)
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
class Label(Work[tuple[str, int]]):
    """Writes the labels of one shard's kept samples, and what they say of the classes. An item is the shard id and the global
    number of its first row."""

    plan: Plan
    counting: quality.Counting

    @property
    def place(self) -> Place:
        return searching_place(self.plan)

    def name(self, item: tuple[str, int]) -> str:
        return item[0]

    @contextmanager
    def open(self) -> Iterator[Callable[[tuple[str, int]], Facts]]:
        plan = self.plan
        levels = taxonomy.read_levels(plan.root, plan.fitted.centroids)
        naming = Naming(levels[0].ids, taxonomy.ancestors(levels))
        centroids = levels[0].centroids
        ready = search_of(plan).centres(centroids) if len(centroids) else centroids   # without classes no sample was kept
        opened = Opened(ready, naming, label_rule(plan), hypernyms(plan))
        yield lambda item: self._run(*item, opened)

    def _run(self, shard_id: str, first_row: int, opened: Opened) -> Facts:
        started = time.monotonic()
        plan, store = self.plan, self.plan.root
        clip = plan.columns.folders["clip"]
        kept = kept_rows(store, plan.verdicts, shard_id).astype(np.int64)
        uid: pa.Array = read_columns(store, clip, shard_id, ["uid"]).column("uid").combine_chunks()
        found = labels.NONE
        if len(kept):
            rows = unit(np.asarray(read_vectors(store, clip, shard_id, "image_embedding")[kept]))
            found = labels.labelled(rows, opened.centres, opened.rule)
            self._tally((shard_id, first_row), kept, self._two_nearest(rows, found, opened), opened)
        else:
            few = min(2, max(1, self.counting.k))
            self._tally((shard_id, first_row), kept, (np.zeros((0, few), np.int32), np.zeros((0, few), np.float32)), opened)
        facts = {"rows": len(uid), "labelled": len(kept)}
        write_table(store, f"{plan.labels}/{shard_id}.parquet", label_table(uid, found, kept, opened.naming), facts)
        return {"rows": len(uid), "seconds": time.monotonic() - started}

    def _two_nearest(self, rows: Floats, found: labels.Labels, opened: Opened) -> Nearest:
        """Of labels that are one class per sample, the runner-up is asked for."""
        if found.ids.shape[1] >= min(2, self.counting.k):
            return found.ids, found.similarity
        return nearest(rows, opened.centres, 2)

    def _tally(self, item: tuple[str, int], kept: NDArray[np.int64], found: Nearest, opened: Opened) -> None:
        """Of the kept rows: their nearest classes, and their linked entities."""
        plan, (shard_id, first_row), (ids, cosines) = self.plan, item, found
        entities = presence(linked_entities(plan, shard_id, kept), opened.parents, NamingRule().levels)
        tallies.write_tally(
            plan.root, f"{plan.tallies}/{shard_id}.parquet", quality.tally(self.counting, first_row + kept, ids, cosines),
            class_counts(entities, ids[:, 0], self.counting.k))
