"""How long a run would take and how much disk: from a probe of the first samples, in this process. Nothing is written."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from pipeline.errors import InputError
from pipeline.input.reader import read
from pipeline.passes.annotate import BATCH_ROWS, batch_columns
from pipeline.passes.classes import chosen_schedule
from pipeline.plan import Plan
from pipeline.process.share import usable_memory
from pipeline.quantities import duration, size
from pipeline.queries.fit_costs import as_answer, costs_in_words, fit_costs, measured_rate
from pipeline.recipe.sections import FITTED_HERE
from pipeline.reduce.kmeans.costs import Machines
from pipeline.stages.precision import Distance
from schemas.answers.plans import FitCosts, PrecisionDistance, RunEstimate

PROBED = 2 * BATCH_ROWS
"""Samples; the first batch warms up and is not timed when there is a second one."""


def estimate(plan: Plan, workers: int, nodes: int = 1, distances: Sequence[Distance] = ()) -> RunEstimate:
    """What a run of this plan would read, write and take, by a probe of its first samples; each figure also as text for people.
    Times assume workers as fast as this process, on `nodes` machines like this one."""
    opened = time.monotonic()
    with ExitStack() as stack:
        transforms = [stack.enter_context(stage.open()) for stage in plan.stages]
        start = time.monotonic() - opened
        probe = _probe(plan, transforms)
    total = sum(shard.size for shard in plan.shards)
    extrapolated = round(probe["rows"] * total / probe["bytes_read"]) if probe["bytes_read"] else 0
    samples = probe["rows"] if probe["whole"] else max(extrapolated, probe["rows"])
    seconds = start + samples / probe["rate"] / workers if probe["rate"] else start
    columns = round(samples * probe["column_bytes"] / max(probe["rows"], 1))
    classes, words = _classes(plan, samples, nodes, workers)
    return RunEstimate(
        shards=len(plan.shards), bytes=total, samples=samples, rate=probe["rate"], start_seconds=start,
        seconds=seconds, column_bytes=columns, export_bytes_at_most=total, conditions=plan.recipe.conditions,
        classes=classes, route=plan.route,
        precision=tuple(PrecisionDistance.model_validate(distance.record()) for distance in distances),
        text={
            "recipe": plan.recipe.name,
            "model": plan.recipe.model.label,
            "route": plan.route,
            **({"precision": "; ".join(map(str, distances))} if distances else {}),
            "shards": f"{len(plan.shards):,}",
            "input": size(total),
            "samples": f"about {samples:,}" if samples else "none could be read; a run names the gaps",
            "rate": f"{probe['rate']:,.0f} samples/s per worker, measured on {probe['rows']}",
            "start": f"{start:,.1f} s to open the stages",
            "time": f"about {duration(seconds)} with {workers} worker{'s' * (workers > 1)}",
            "columns": f"about {size(columns)}",
            "export": f"at most {size(total)}",
            **words,
        })


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
        words["refused"] = str(error)
    return as_answer(costs, why, words.get("refused")), words


def _probe(plan: Plan, transforms: list[Any]) -> dict[str, Any]:
    rows = timed = column_bytes = bytes_read = 0
    seconds, complete = 0.0, False
    for shard in plan.shards:
        reader = read(shard, batch_rows=BATCH_ROWS, reading=plan.recipe.reading)
        for batch in reader:
            began = time.monotonic()
            added = batch_columns(plan.stages, transforms, batch)
            if rows:
                seconds += time.monotonic() - began
                timed += batch.num_rows
            rows += batch.num_rows
            column_bytes += sum(int(part.nbytes) for part in added.values())
            bytes_read += batch.column("image").nbytes + 4096 * batch.num_rows   # the tar's headers and text members
            if rows >= PROBED:
                break
        if rows >= PROBED:
            break
    else:
        complete = True
    rate = timed / seconds if seconds else 0.0
    return {"rows": rows, "whole": complete, "rate": rate, "column_bytes": column_bytes, "bytes_read": bytes_read}
