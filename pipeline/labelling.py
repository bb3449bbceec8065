"""From kept samples to classes and labels: fits or borrows centroids, names the classes, labels every kept sample."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import RecipeError, RootError
from pipeline.export import kept_rows
from pipeline.gather import Run
from pipeline.io.columns import read_columns, read_table, read_vectors, write_table
from pipeline.io.store import Store
from pipeline.linking import linked_entities, vocabulary
from pipeline.opened import open_root, readable
from pipeline.passes import Driver, stored_shards
from pipeline.plan import Plan
from pipeline.reduce import classes, kmeans, labels
from pipeline.reduce.nearest import nearest, unit
from pipeline.reductions import kept_mask, read_matrix, write_npy
from pipeline.runner import Columns
from pipeline.work import Facts, Work
from schemas.tables import CLASSES


def fit(plan: Plan, run: Run) -> None:
    """`centroids.npy` and `classes.parquet`; nothing when the recipe asks for no classes."""
    folder = plan.classes
    if folder is None or plan.root.exists(f"{folder}/classes.parquet"):
        return
    members = np.flatnonzero(kept_mask(plan, run))
    if not len(members):   # an empty export is a result, not an error
        write_npy(plan.root, f"{folder}/centroids.npy", np.zeros((0, 0), np.float32))
        write_table(plan.root, f"{folder}/classes.parquet", CLASSES.empty_table(), {"k": 0})
        return
    centroids = _centroids(plan, run, members)
    write_npy(plan.root, f"{folder}/centroids.npy", centroids)
    rows = unit(run.vectors("image_embedding", members))
    ids, similarity = nearest(rows, centroids, 1)
    found = classes.Members(members, ids[:, 0], similarity[:, 0], linked_entities(run, members))
    table = classes.named(found, centroids, vocabulary(plan), run.rows)
    write_table(plan.root, f"{folder}/classes.parquet", table, {"k": len(centroids)})


def _centroids(plan: Plan, run: Run, kept: NDArray[np.int64]) -> NDArray[np.float32]:
    settings = plan.recipe.classes
    if settings.fit_on not in ("kept", "all"):
        return _borrowed(plan, settings.fit_on)
    rows = kept if settings.fit_on == "kept" else embedded(run)
    assert settings.k is not None
    found = kmeans.fit(run.vectors("image_embedding", rows), settings.k, seed=plan.recipe.seed, iterations=settings.iterations)
    return found.centroids


def embedded(run: Run) -> NDArray[np.int64]:
    """Global rows that have an image embedding."""
    return np.flatnonzero(np.asarray(run.table("clip", ["image_embedding_valid"]).column("image_embedding_valid")))


def _borrowed(plan: Plan, url: str) -> NDArray[np.float32]:
    """Centroids of another root, if its embeddings are of the same model by the same route."""
    other = Store(url)
    if not other.exists("current.json") or other.read_json("current.json")["classes"] is None:
        raise RecipeError(f"classes.fit_on: {url} is not a finished run with classes; give kept, all or such a root")
    theirs = other.read_json("run.json")["outputs"]["columns"]["clip"]
    if theirs != plan.columns.folders["clip"]:
        raise RecipeError(f"classes.fit_on: {url} has embeddings of another model or numeric route ({theirs})")
    return read_matrix(other, f"{other.read_json('current.json')['classes']}/centroids.npy")


@dataclass(frozen=True)
class Label(Work[str]):
    """Writes the labels of one shard's kept samples."""

    columns: Columns
    verdicts: str
    classes: str
    folder: str
    rule: labels.LabelRule

    def name(self, item: str) -> str:
        return item

    @contextmanager
    def open(self) -> Iterator[Callable[[str], Facts]]:
        centroids = read_matrix(self.columns.store, f"{self.classes}/centroids.npy")
        yield lambda shard_id: self._run(shard_id, centroids)

    def _run(self, shard_id: str, centroids: NDArray[np.float32]) -> Facts:
        started = time.monotonic()
        store, clip = self.columns.store, self.columns.folders["clip"]
        kept = kept_rows(store, self.verdicts, shard_id).astype(np.int64)
        uid: pa.Array = read_columns(store, clip, shard_id, ["uid"]).column("uid").combine_chunks()
        rows = unit(np.asarray(read_vectors(store, clip, shard_id, "image_embedding")[kept]))
        found = labels.labelled(rows, centroids, self.rule) if len(kept) else labels.NONE
        facts = {"rows": len(uid), "labelled": len(kept)}
        write_table(store, f"{self.folder}/{shard_id}.parquet", labels.table(uid, found, kept), facts)
        return {"rows": len(uid), "seconds": time.monotonic() - started}


def label(plan: Plan, run: Run, driver: Driver) -> None:
    if plan.labels is None or plan.classes is None:
        return
    settings = plan.recipe.classes
    rule = labels.LabelRule(settings.labels, settings.floor, settings.temperature)
    there = stored_shards(plan.root, [plan.labels])
    todo = [shard_id for shard_id in run.rows.shard_ids if shard_id not in there]
    driver.must("label", Label(plan.columns, plan.verdicts, plan.classes, plan.labels, rule), todo, there=len(there))


def class_rows(url: str) -> list[dict[str, Any]]:
    """The classes of a root, the largest first."""
    plan = readable(open_root(url))
    if plan.classes is None or not plan.root.exists(f"{plan.classes}/classes.parquet"):
        raise RootError(f"{url} has no classes: its recipe has no classes.k, or its run is not finished")
    rows: list[dict[str, Any]] = read_table(plan.root, f"{plan.classes}/classes.parquet").to_pylist()
    return sorted(rows, key=lambda row: (-row["size"], row["class_id"]))
