"""From the labels and embeddings of a run to its duplicates by meaning (`reduce/duplicates/semantic.py` says what they are).

Classes are divided into partitions of a bounded number of rows, and rows travel to them and back by `shuffle/`. What one worker
holds is bounded whatever the run's size; a class that has more rows than a partition lies on its worker's disk, and is named.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.columns import Run
from pipeline.driver import Driver
from pipeline.export.class_table import class_names, stored_class_table
from pipeline.passes.semantic.compare import ToClasses, WithinClasses
from pipeline.passes.semantic.written import Write, written
from pipeline.plan import Plan
from pipeline.quantities import clean
from pipeline.reduce.duplicates.semantic import SemanticRule
from pipeline.root.existing import SEMANTIC_ACCOUNT
from pipeline.shuffle.exchange import Exchange, groups_of, through
from pipeline.store.tables import read_many_facts, stored_shards, vector_length
from pipeline.vectors import Ids, Ints

TOGETHER = 1 << 27
"""Bytes of the embeddings of a group of shards, and of a partition of the classes, about; one shard or class may have more."""
LARGE = 16
"""A class of so many times the mean is named, where it is larger than a partition."""
TITLE = "semantic duplicates"


def find_semantic_duplicates(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes the folders `plan.semantic_columns` and `plan.semantic_pairs`; nothing where the recipe does not ask for them."""
    columns, pairs, shard_ids = plan.semantic_columns, plan.semantic_pairs, run.rows.shard_ids
    if columns is None or pairs is None or not shard_ids:
        return
    if plan.root.exists(f"{pairs}/{SEMANTIC_ACCOUNT}") and set(shard_ids) <= stored_shards(plan.root, [columns]):
        return
    classes = stored_class_table(plan.root, plan.fitted.classes, ["class_id", "size", "level"], level=0)
    ids, sizes = np.asarray(classes.column("class_id"), np.int32), np.asarray(classes.column("size"), np.int64)
    most = max(1, TOGETHER // (2 * max(1, vector_length(plan.root, plan.columns.folders["clip"], shard_ids[0], "image_embedding"))))
    name_large_class(plan, driver, ids, sizes, most)
    partition = packed(sizes.tolist(), most)
    exchange = Exchange(plan.root, columns, groups_of(run.rows, most), int(partition.max(initial=0)) + 1)
    settings = plan.recipe.semantic_duplicates
    rule = SemanticRule(settings.epsilon or 0.0, settings.greedy)
    through(driver, TITLE, exchange, ToClasses(plan, ids, partition), WithinClasses(rule))
    done = written(plan, exchange.groups)
    driver.complete(f"{TITLE}: write", Write(plan, run.rows, exchange), exchange.groups, done, alone=len(exchange.groups) == 1)
    plan.root.write_json(f"{pairs}/{SEMANTIC_ACCOUNT}", account(plan, exchange, ids, sizes))
    exchange.remove()


def packed(sizes: Sequence[int], most: int) -> Ints:
    """i64[k]: the partition of each class, in their order: those of a partition have at most `most` rows together, or it is one
    class that has more."""
    partition, filled, numbers = 0, 0, []
    for size in sizes:
        if filled and filled + size > most:
            partition, filled = partition + 1, 0
        filled += size
        numbers.append(partition)
    return np.array(numbers, np.int64)


def account(plan: Plan, exchange: Exchange, ids: Ids, sizes: Ints) -> dict[str, Any]:
    """What was compared and what came of it, in numbers."""
    counted = list(read_many_facts(plan.root, [f"{plan.semantic_pairs}/{group}.parquet" for group in exchange.groups]))
    total = {name: sum(int(facts[name]) for facts in counted) for name in ("rows", "removed", "chained")}
    largest = {"class_id": int(ids[sizes.argmax()]), "size": int(sizes.max())} if len(sizes) else None
    return {**total, "classes": len(sizes), "largest": largest}


def name_large_class(plan: Plan, driver: Driver, ids: Ids, sizes: Ints, most: int) -> None:
    """Says which class will take one worker long, and why."""
    size, mean = int(sizes.max(initial=0)), float(sizes.mean()) if len(sizes) else 0.0
    if size <= max(most, LARGE * mean):
        return
    class_id = int(ids[sizes.argmax()])
    name = class_names(plan.root, plan.fitted.classes).get(class_id, "")
    driver.reporter.note(
        f"{TITLE}: class {class_id} ({clean(name)}) has {size:,} samples, {size / mean:,.0f} times the mean: one worker compares "
        f"them, up to {size * (size - 1) / 2:.2g} pairs, and holds them on its disk; more classes (classes.k) would divide it")
