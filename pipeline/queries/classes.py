"""The classes of a root, to be looked at: all, one, or beside those of another root."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError, RootError
from pipeline.export.class_table import class_names, has_class_table, stored_class_table, stored_quality
from pipeline.passes.labels import first_labels
from pipeline.plan import Plan
from pipeline.queries.naming import names_of
from pipeline.reduce.classes.identity import SizedClasses, compare
from pipeline.reduce.classes.overlap import Overlap
from pipeline.reduce.classes.taxonomy import read_classes
from pipeline.root.existing import open_root, readable
from schemas.answers.classes import (
    ClassComparison,
    ClassDetails,
    ClassHandle,
    ClassMember,
    ClassRow,
    ConfusableClass,
    MatchedClass,
)
from schemas.tables import CLASSES

COMPARED = 200_000
"""Samples that two roots are compared on, about: chosen by uid, so that both choose the same."""


def class_rows(url: str, level: int = 0) -> tuple[ClassRow, ...]:
    """The classes of one level, the largest first. Raises RootError without classes, InputError for a level that is not there."""
    plan = plan_with_classes(url)
    rows = rows_where(plan, pc.field("level") == level)
    if not rows and level:
        raise InputError(f"{url} has no classes of level {level}; its recipe has classes.levels={list(plan.recipe.classes.levels)}")
    return tuple(sorted(rows, key=_largest_first))


def class_details(url: str, class_id: int, level: int = 0) -> ClassDetails:
    """Everything known of a class: its row, its parent, the classes below it, and what it is easily taken for. Raises RootError
    without classes, InputError for a class that is not there."""
    plan = plan_with_classes(url)
    rows = rows_where(plan, pc.field("level").isin([level - 1, level, level + 1]))
    details = next((row for row in rows if (row.level, row.class_id) == (level, class_id)), None)
    if details is None:
        raise InputError(f"{url} has no class {class_id} of level {level}; `shardmill classes {url}` lists them")
    parent = next((row for row in rows if (row.level, row.class_id) == (level + 1, details.parent)), None)
    children = [row for row in rows if (row.level, row.parent) == (level - 1, class_id)]
    names = {row.class_id: row.name for row in rows if row.level == level}
    confusable = () if level else tuple(
        ConfusableClass(class_id=other, name=names[other], cosine=pair["cosine"], share=pair["share"])
        for pair in stored_quality(plan.root, plan.fitted.classes)["confusable"]["pairs"] if class_id in pair["classes"]
        for other in pair["classes"] if other != class_id
    )
    members = [(sample.shard_id, sample.row) for sample in (*details.exemplars, *details.outliers)]
    uids = {row: names["uid"] for row, names in names_of(plan, members).items()}
    named = {field: tuple(ClassMember(**{**dict(sample), "uid": uids[sample.shard_id, sample.row]}) for sample in samples)
             for field, samples in (("exemplars", details.exemplars), ("outliers", details.outliers))}
    return ClassDetails(
        **{**dict(details), **named}, parent_name=None if parent is None else parent.name, confusable=confusable,
        children=tuple(ClassHandle(class_id=row.class_id, name=row.name, size=row.size)
                       for row in sorted(children, key=_largest_first)))


def compare_roots(url: str, other_url: str) -> ClassComparison:
    """Which class of one root is which of another, matched by their centroids and by the samples that both label, and how far
    the two agree on those. Raises RootError where a root has no classes, or where the embeddings are not of one model and
    route."""
    plans = plan_with_classes(url), plan_with_classes(other_url)
    embeddings = [plan.columns.folders["clip"] for plan in plans]
    if embeddings[0] != embeddings[1]:
        raise RootError(
            f"{url} and {other_url} have embeddings of different models or numeric routes "
            f"({embeddings[0]}, {embeddings[1]}): their classes cannot be compared")
    sides = [_sized(plan) for plan in plans]
    share = min(1.0, COMPARED / max(1, *(int(side.sizes.sum()) for side in sides)))
    labels = [_first_labels(plan, share) for plan in plans]
    common = labels[0].join(labels[1], "uid", right_suffix="_other", join_type="inner")
    classes = [_positions(side, common.column(name)) for side, name in zip(sides, ("label", "label_other"), strict=True)]
    overlap = Overlap.of(*classes) if common.num_rows else None
    comparison = compare(sides[0], sides[1], overlap)
    names, other_names = (class_names(plan.root, plan.fitted.classes) for plan in plans)
    rows = tuple(
        MatchedClass(**row, name=names.get(row["class_id"]), other_name=other_names.get(row["other_id"]))
        for row in comparison.table.to_pylist())
    return ClassComparison(
        root=url, other=other_url, common_samples=common.num_rows, ari=comparison.ari, ami=comparison.ami,
        matched=sum(None not in (row.class_id, row.other_id) for row in rows), classes=rows)


def _sized(plan: Plan) -> SizedClasses:
    identity = read_classes(plan.root, plan.fitted.centroids)
    table = stored_class_table(plan.root, plan.fitted.classes, ["class_id", "size", "level"], level=0)
    sizes = dict(zip(table.column("class_id").to_pylist(), table.column("size").to_pylist(), strict=True))
    return SizedClasses(identity, np.array([sizes[id] for id in identity.ids.tolist()], np.int64))


def _first_labels(plan: Plan, share: float) -> pa.Table:
    """(uid, label) of a share of the labelled samples, each uid once."""
    parts = [first_labels(plan, shard.shard_id, share).select(["uid", "label"]) for shard in plan.shards]
    return pa.concat_tables(parts).group_by("uid", use_threads=False).aggregate([("label", "min")]).rename_columns(["uid", "label"])


def _positions(side: SizedClasses, ids: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int32]]:
    place = np.full(side.classes.next_id, -1, np.int32)
    place[side.classes.ids] = np.arange(len(side.classes.ids))
    return np.asarray(place[np.asarray(ids)], np.int32)


def plan_with_classes(url: str) -> Plan:
    """The plan of a root, over its readable shards. Raises RootError for what is no root, and where its classes have no names
    yet."""
    plan = readable(open_root(url))
    if not has_class_table(plan.root, plan.classes):
        raise RootError(f"{url} has no classes: its recipe has no classes.k, or its run is not finished")
    return plan


def rows_where(plan: Plan, filters: Any) -> list[ClassRow]:
    """The classes that meet a pyarrow expression over schemas.tables.CLASSES, of a plan that has them."""
    table = stored_class_table(plan.root, plan.fitted.classes, CLASSES.names, filters=filters)
    return [ClassRow.model_validate(row) for row in table.to_pylist()]


def _largest_first(row: ClassRow) -> tuple[int, int]:
    return -row.size, row.class_id
