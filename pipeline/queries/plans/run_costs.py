"""What every pass of a run costs at a size, from the measured table: time, memory, files, requests, bytes; and which do not fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.passes.shards.compaction import BLOCK_ROWS, are_compacted
from pipeline.quantities import duration, size
from pipeline.queries.plans.measured import DRIVER_BYTES, MEASURED, MODEL_WORKER_BYTES, PARTITION_ROWS, WORKER_BYTES, Measured
from pipeline.recipe.recipe import Recipe
from pipeline.reduce.kmeans.costs import Machines
from schemas.answers.plans import FitCosts, PassEstimate

HALF, FLOAT = 2, 4
"""Bytes of a value of an embedding, as it is stored and as it is computed with: a worker holds both of a shard."""
LONGEST = 30 * 86_400.0
"""Seconds: a pass that would take longer than this is refused as one that does not end."""
ANNOTATE = "annotate"
CLUSTERING = "clustering"


@dataclass(frozen=True)
class Extent:
    """How much there is."""

    rows: int
    shards: int
    dimension: int
    """Values of an embedding."""
    column_bytes: int = 0
    """Of the columns that the annotate pass writes."""
    input_bytes: int = 0

    @property
    def tables(self) -> int:
        """Files of a finished pass that writes one for each shard: as many, or those of the blocks that they are then in."""
        return math.ceil(self.rows / BLOCK_ROWS) if are_compacted(self.shards, self.rows) else self.shards


def passes_of(recipe: Recipe) -> tuple[Measured, ...]:
    """The passes behind the annotate pass that a recipe has, in order, with what they were measured to take; clustering has a
    formula of its own (`fit_costs`)."""
    find, derived = recipe.duplicates.find, recipe.read_by_rules().get("derived", ())
    absent = {
        **{"exact duplicates": find == "none", "near duplicates": find != "near"},
        "counts over the run": not {"caption_images", "image_captions", "pair_duplicate"} & set(derived),
        **dict.fromkeys(("label", "names of the classes"), recipe.classes.k is None),
        "balance": recipe.export.balance is None,
    }
    return tuple(kind for kind in MEASURED if not absent.get(kind.title, False))


def pass_estimates(
    recipe: Recipe, extent: Extent, machines: Machines, rate: float, fit: FitCosts | None,
) -> tuple[PassEstimate, ...]:
    """Every pass in order. `rate`: samples a second of one worker that annotates (0: not known); `fit`: the clustering and the
    exact labels, where there are some."""
    first = PassEstimate(
        name=ANNOTATE, seconds=extent.rows / rate / machines.actors if rate else 0.0, driver_bytes=DRIVER_BYTES,
        worker_bytes=MODEL_WORKER_BYTES, files=9 * extent.tables, requests=20 * extent.shards,
        moved_bytes=extent.input_bytes + extent.column_bytes, alone=False)
    found = [first]
    for kind in passes_of(recipe):
        if kind.title == "label" and fit is not None:
            found.append(clustering(fit, extent))
        found.append(estimated(kind, extent, machines.actors))
        if kind.title == "export":   # a tar, its columns and its account for each output shard
            found[-1] = found[-1].model_copy(update={"files": 3 * math.ceil(extent.rows / recipe.export.shard_size)})
    return tuple(found)


def clustering(fit: FitCosts, extent: Extent) -> PassEstimate:
    """The fit and the search of the labels: arithmetic at the rate measured here."""
    read = sum(part.times for part in fit.passes if part.rows >= extent.rows)
    return PassEstimate(
        name=CLUSTERING, seconds=fit.seconds, driver_bytes=DRIVER_BYTES, worker_bytes=WORKER_BYTES + fit.actor_bytes,
        files=5, requests=extent.shards * max(1, read), moved_bytes=read * HALF * extent.dimension * extent.rows + fit.wire_bytes,
        alone=False)


def estimated(kind: Measured, extent: Extent, actors: int) -> PassEstimate:
    """One pass by its row of the table."""
    pairs = extent.rows ** 2 / 2
    work = kind.fixed + 1e-6 * (kind.row * extent.rows + kind.pair * pairs) + 1e-3 * kind.shard * extent.shards
    rows_of_shard = math.ceil(extent.rows / max(1, extent.shards))
    held = (FLOAT + HALF) * kind.vectors * extent.dimension * rows_of_shard + kind.partition * min(extent.rows, PARTITION_ROWS)
    return PassEstimate(
        name=kind.title, seconds=work / (1 if kind.alone else actors),
        driver_bytes=DRIVER_BYTES,
        worker_bytes=0 if kind.alone else WORKER_BYTES + round(held),
        files=round(kind.files * extent.tables), requests=round(kind.requests * extent.shards),
        moved_bytes=round(extent.rows * (kind.moved + kind.vectors * HALF * extent.dimension)), alone=kind.alone)


def refusals(passes: Sequence[PassEstimate], machines: Machines) -> tuple[str, ...]:
    """A sentence, with what to set, on every pass that such machines cannot make."""
    remedies: Mapping[str, str] = {kind.title: kind.remedy for kind in MEASURED}
    per_node, sentences = -(-machines.actors // machines.nodes), []
    for part in passes:
        remedy = f": {remedies[part.name]}" if remedies.get(part.name) else ""
        if machines.memory is not None and part.driver_bytes > machines.memory:
            sentences.append(f"{part.name} would hold {size(part.driver_bytes)} in the driver, on a machine of "
                             f"{size(machines.memory)}{remedy}")
        elif machines.memory is not None and part.name != CLUSTERING and part.worker_bytes * per_node > machines.memory:
            sentences.append(f"{part.name} would hold {size(part.worker_bytes)} in each of {per_node} workers of a machine of "
                             f"{size(machines.memory)}: take fewer workers, or smaller shards")
        elif part.seconds > LONGEST:
            sentences.append(f"{part.name} would take {duration(part.seconds)}{remedy}")
    return tuple(sentences)
