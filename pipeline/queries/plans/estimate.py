"""How long a run would take and how much disk: from a probe of the first samples, in this process. Nothing is written."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.input.discovery import Shard
from pipeline.input.reader import ShardReader, read
from pipeline.passes.annotate import BATCH_ROWS, batch_columns
from pipeline.passes.classes import chosen_schedule
from pipeline.plan import Plan
from pipeline.process.share import usable_memory
from pipeline.quantities import a_second, duration, size
from pipeline.queries.nothing_kept import probed_ledger, unpromising
from pipeline.queries.plans.fit_costs import as_answer, costs_in_words, fit_costs, measured_rate
from pipeline.queries.plans.index_costs import index_costs
from pipeline.queries.plans.run_costs import Extent, pass_estimates, refusals
from pipeline.queries.thin_classes import too_many_classes
from pipeline.recipe.sections import FITTED_HERE
from pipeline.reduce.kmeans.costs import Machines
from pipeline.select.ledger import Ledger
from pipeline.stages.precision import Distance
from schemas.answers.plans import FitCosts, PrecisionDistance, RunEstimate

PROBED = 2 * BATCH_ROWS
"""Samples; the first batch warms up and is not timed when there is a second one."""
LOOKED_INTO = 8
"""Further shards whose first samples are looked at, about."""


class Scale(NamedTuple):
    """For what a run is planned."""

    workers: int
    """In all."""
    nodes: int = 1
    """Machines like this one that they are on."""
    rows: int | None = None
    """Samples of the run, in shards as large as those of the inputs; None: those of the inputs."""


def estimate(
    plan: Plan, scale: Scale, distances: Sequence[Distance] = (), notes: Sequence[str] = (),
) -> RunEstimate:
    """What a run of this plan would read, write and take, by a probe of its first samples; each figure also as text for people.
    `notes` are on what the inputs leave aside. Times assume workers as fast as this process."""
    workers, nodes = scale.workers, scale.nodes
    opened = time.monotonic()
    with ExitStack() as stack:
        transforms = [stack.enter_context(stage.open()) for stage in plan.stages]
        start = time.monotonic() - opened
        probe = _probe(plan, transforms)
    total = sum(shard.size for shard in plan.shards)
    extrapolated = round(probe["rows"] * total / probe["bytes_read"]) if probe["bytes_read"] else 0
    found = probe["rows"] if probe["whole"] else max(extrapolated, probe["rows"])
    samples = found if scale.rows is None else scale.rows
    shards = len(plan.shards) if samples == found else max(1, round(len(plan.shards) * samples / max(1, found)))
    total = total if samples == found else round(total * samples / max(1, found))
    seconds = start + samples / probe["rate"] / workers if probe["rate"] else start
    columns = round(samples * probe["column_bytes"] / max(probe["rows"], 1))
    classes, words = _classes(plan, samples, nodes, workers)
    machines = Machines(nodes, workers, 1.0, usable_memory())
    extent = Extent(samples, shards, plan.clip.description.dimension, columns, total)
    index = index_costs(plan.recipe.index, extent, machines, measured_rate)
    passes = (*pass_estimates(plan.recipe, extent, machines, probe["rate"], classes), *index.passes)
    no_fit = (classes.refused,) if classes is not None and classes.refused else ()
    refused = (*no_fit, *index.refused, *refusals(passes, machines))
    ledger = probe["ledger"]
    return RunEstimate(
        warnings=(*notes, *unpromising(plan, ledger, _others(plan, ledger)), *_too_many_classes(plan, samples)),
        shards=shards, bytes=total, samples=samples, rate=probe["rate"], start_seconds=start,
        seconds=seconds, column_bytes=columns, export_bytes_at_most=total, conditions=plan.recipe.conditions,
        classes=classes, passes=passes, refused=refused, route=plan.route,
        precision=tuple(PrecisionDistance.model_validate(distance.record()) for distance in distances),
        text={
            "recipe": plan.recipe.name,
            "model": plan.recipe.model.label,
            "route": plan.route,
            **({"precision": "; ".join(map(str, distances))} if distances else {}),
            "shards": f"{shards:,}",
            "input": size(total),
            "samples": f"about {samples:,}" if samples else "none could be read; a run names the gaps",
            **({"rate": f"{a_second(probe['rate'])} samples/s per worker, measured on {probe['rows']}"} if probe["rate"] else {}),
            "start": f"{start:,.1f} s to open the stages",
            "time": f"about {duration(seconds)} to annotate with {workers} worker{'s' * (workers > 1)}",
            "columns": f"about {size(columns)}",
            "export": f"at most {size(total)}",
            **words, **index.words,
        })


def _too_many_classes(plan: Plan, samples: int) -> list[str]:
    """A warning where the recipe fits more classes than there are samples, if all were kept."""
    settings = plan.recipe.classes
    if settings.k is None or settings.fit_on not in FITTED_HERE:
        return []
    return list(filter(None, [too_many_classes(settings.k, samples)]))


def _classes(plan: Plan, samples: int, nodes: int, workers: int) -> tuple[FitCosts | None, dict[str, str]]:
    """What clustering would cost if every sample were kept; nothing where nothing is fitted."""
    settings = plan.recipe.classes
    if settings.k is None or settings.fit_on not in FITTED_HERE or not samples:
        return None, {}
    d = plan.clip.description.dimension
    schedule, why = chosen_schedule(plan, samples, d)
    machines = Machines(nodes, workers, measured_rate(d, settings.k), usable_memory())
    costs = fit_costs(schedule, (samples, d, settings.k), machines)
    words = costs_in_words(costs, why, plan)
    try:
        costs.check()
    except InputError as error:
        return as_answer(costs, why, str(error)), words
    return as_answer(costs, why, None), words


def _probe(plan: Plan, transforms: list[Any]) -> dict[str, Any]:
    rows = timed = column_bytes = bytes_read = 0
    seconds, complete = 0.0, False
    readers: list[tuple[ShardReader, Counter[str | None]]] = []
    for shard in plan.shards:
        reader = read(shard, batch_rows=BATCH_ROWS, reading=plan.recipe.reading)
        readers.append((reader, Counter()))
        for batch in reader:
            began = time.monotonic()
            added = batch_columns(plan.stages, transforms, batch)
            if timed == rows:   # none but the first, which counts only where there is no other
                seconds, timed = 0.0, 0
            seconds, timed = seconds + time.monotonic() - began, timed + batch.num_rows
            rows += batch.num_rows
            readers[-1][1].update(_errors(added.values()))
            column_bytes += sum(int(part.nbytes) for part in added.values())
            bytes_read += batch.column("image").nbytes + 4096 * batch.num_rows   # the tar's headers and text members
            if rows >= PROBED:
                break
        if rows >= PROBED:
            break
    else:
        complete = True
    rate = timed / seconds if seconds else 0.0
    return {"rows": rows, "whole": complete, "rate": rate, "column_bytes": column_bytes, "bytes_read": bytes_read,
            "ledger": probed_ledger(readers)}


def _errors(added: Iterable[pa.RecordBatch]) -> list[str | None]:
    """The first error of each sample; a stage's error is its last column."""
    return list(pc.coalesce(*(part.column(part.num_columns - 1).cast(pa.string()) for part in added)).to_pylist())


def _others(plan: Plan, probed: Ledger) -> list[Shard]:
    """Shards that are looked at beside the probed ones: some, evenly spread, and every one that only stands for a gap."""
    rest = [shard for shard in plan.shards if shard.shard_id not in probed.shards and shard.kind != "gap"]
    return [*rest[:: max(1, len(rest) // LOOKED_INTO)], *(shard for shard in plan.shards if shard.kind == "gap")]
