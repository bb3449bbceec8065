"""The numbers behind relative rules: workers gather the values that a share is taken of, and the pairs that are shuffled; the
driver goes through the values, a group of shards at a time."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.columns import Columns, Run, bundles, shard_ids_of
from pipeline.driver import Driver
from pipeline.passes.embeddings import Embedded
from pipeline.plan import Plan
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.rules import Threshold
from pipeline.select.columns import shuffled_similarities, threshold_table
from pipeline.select.stored import THRESHOLDS, has_thresholds, stored_thresholds
from pipeline.select.thresholds import Values, readable_values, relative, resolve
from pipeline.shuffle.drawn import Drawing, drawn_here
from pipeline.shuffle.exchange import Group, GroupWork, groups_of
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.work import Facts

NULL_BINS = 200
"""Of the histogram of shuffled similarities that the report shows, from -1 to 1."""
NULL_PAIRS = 100_000
"""Shuffled pairs are drawn from at most so many rows: the error of a quantile is then below 0.2 % of the ranks."""
PAIRS = ("image_embedding", "text_embedding")


def resolve_thresholds(plan: Plan, run: Run, driver: Driver) -> dict[str, Threshold]:
    """The numbers behind shares and quantiles, by rule; stored beside the null distribution that the report shows."""
    groups, name = groups_of(run.rows), plan.selected.rpartition("/")[2]
    folder, drawing = f"{PARTIAL}/{name}-values-{len(groups)}", Drawing(driver, name, groups)
    if not has_thresholds(plan.root, plan.selected):
        rng = null_generator(plan.recipe)
        null = shuffled_similarities(drawing.drawn(Embedded(plan.columns, PAIRS), NULL_PAIRS, rng), rng)
        shared = share_columns(plan.recipe)
        if shared:
            work = WriteValues(plan.columns, plan.recipe, shared, folder)
            stored = {n.removeprefix("values-").removesuffix(".npy") for n in plan.root.names(folder)}
            driver.complete("values of the rules", work, groups, stored, alone=len(groups) == 1)
        thresholds = resolve(plan.recipe.filters, partial(written_values, plan.root, folder, groups, shared), null)
        write_thresholds(plan, thresholds, null)
    plan.root.remove(folder)
    drawing.remove()
    return stored_thresholds(plan.root, plan.selected)


def write_thresholds(plan: Plan, thresholds: dict[str, Threshold], null: NDArray[np.float32]) -> None:
    """thresholds.json."""
    edges = np.linspace(-1, 1, NULL_BINS + 1)
    plan.root.write_json(f"{plan.selected}/{THRESHOLDS}", {
        "thresholds": {name: {"value": t.value, "last_tie": t.last_tie} for name, t in thresholds.items()},
        "null": {"pairs": len(null), "edges": edges.tolist(), "counts": np.histogram(null, edges)[0].tolist()},
    })


def thresholds_of(recipe: Recipe, run: Run) -> dict[str, Threshold]:
    """The thresholds that other rules would have, worked out in this process and written nowhere."""
    rng, rules = null_generator(recipe), relative(recipe.filters)
    null = None
    if any(rule.null_quantile is not None for rule in rules.values()):
        null = shuffled_similarities(drawn_here(run.rows.shards, Embedded(run.columns, PAIRS), NULL_PAIRS, rng), rng)
    return resolve(recipe.filters, partial(read_values, run, recipe), null)


def null_generator(recipe: Recipe) -> np.random.Generator:
    """Draws the rows of the null distribution, then shuffles them."""
    return np.random.default_rng([recipe.seed, 2])


def share_columns(recipe: Recipe) -> tuple[str, ...]:
    """The columns of which a rule keeps a share."""
    return tuple(sorted({rule.column for rule in relative(recipe.filters).values() if rule.fraction is not None}))


@dataclass(frozen=True)
class WriteValues(GroupWork):
    """Writes the readable values of a group, [names, rows], NaN where one is not readable."""

    columns: Columns
    recipe: Recipe
    names: tuple[str, ...]
    folder: str

    def run(self, item: Group) -> Facts:
        parts = []
        for shards in bundles(item.shards):
            table = threshold_table(self.columns, self.recipe, self.names, shard_ids_of(shards))
            parts.append(np.stack([readable_values(table, name) for name in self.names]))
        self.columns.store.write(f"{self.folder}/values-{item}.npy", npy_bytes(np.concatenate(parts, axis=1)))
        return {"rows": item.rows}


def written_values(store: Store, folder: str, groups: Collection[Group], names: tuple[str, ...], name: str) -> Values:
    """The values of one column that `WriteValues` wrote."""
    def pieces() -> Iterator[NDArray[np.floating]]:
        for group in groups:
            yield np.array(read_npy(store, f"{folder}/values-{group}.npy")[names.index(name)])   # no file stays mapped
    return pieces


def read_values(run: Run, recipe: Recipe, name: str) -> Values:
    """The same from the stages' columns."""
    def pieces() -> Iterator[NDArray[np.floating]]:
        for shards in bundles(run.rows.shards):
            yield readable_values(threshold_table(run.columns, recipe, (name,), shard_ids_of(shards)), name)
    return pieces
