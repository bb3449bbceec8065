"""What the indexes of a recipe would cost: time, memory, files and bytes, by the choice that a run would make."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pipeline.errors import InputError
from pipeline.passes.index.build import Asked
from pipeline.passes.index.fill import TOGETHER
from pipeline.passes.index.train import FEW_LISTS, QUERIES_HELD
from pipeline.quantities import size
from pipeline.queries.plans.measured import DRIVER_BYTES, WORKER_BYTES
from pipeline.queries.plans.run_costs import FLOAT, HALF, Extent
from pipeline.recipe.sections import Index
from pipeline.reduce.kmeans.costs import Machines
from pipeline.search.index.choice import HNSW, ID_BYTES, RESIDENT, Choice, chosen
from schemas.answers.plans import PassEstimate

READ = 2
"""Times that all embeddings are read: to be placed, and as true neighbours of the queries."""
MOVED = 3
"""Times that a code is written: to its range, with its list, into the file."""
ENCODED = 25e-6
"""Seconds of processor time to read, encode, sort and write a vector of 512 values in half precision (docs/benchmarks.md)."""
LINKED = 4e-4
"""Seconds of processor time to link a vector of 512 values into a graph of a million: 0.17 ms were measured for 20,000, the rest is
assumed."""
LEVELS = 3
"""Times the work of one exact pass over the sample that a fit takes with its seeds; of few lists, by plain iterations, 10."""


class IndexCosts(NamedTuple):
    """What `plan` says of indexes."""

    passes: tuple[PassEstimate, ...]
    words: Mapping[str, str]
    refused: tuple[str, ...] = ()


def index_costs(settings: Index, extent: Extent, machines: Machines, rate: Callable[[int, int], float]) -> IndexCosts:
    """The costs if every sample were kept; nothing where the recipe asks for no index. `rate`: the floating-point operations a
    second of one worker that looks for the nearest of so many centres (dimension, centres)."""
    if settings.of is None:
        return IndexCosts((), {})
    try:
        choice = chosen(Asked(settings, extent.dimension, None).wish(extent.rows))
    except InputError as error:
        return IndexCosts((), {}, (f"index: {error}",))
    each = f"{size(choice.bytes)} for each of {', '.join(settings.modality)}"
    words = {"index": f"{choice.why}; {each}"}
    flops = rate(extent.dimension, max(256, choice.lists))
    return IndexCosts(tuple(_estimate(choice, modality, extent, (machines.actors, flops)) for modality in settings.modality), words)


def _estimate(choice: Choice, modality: str, extent: Extent, workers: tuple[int, float]) -> PassEstimate:
    """One index; `workers`: how many, and the floating-point operations a second of each."""
    n, d, (actors, flops) = extent.rows, extent.dimension, workers
    passes = 10 if choice.lists <= FEW_LISTS else LEVELS
    multiplied = 2.0 * d * ((n + passes * choice.training_rows) * choice.lists * (choice.lists > 1) + n * 2 * QUERIES_HELD)
    shared = multiplied / flops + n * ENCODED * max(0.2, d / 512)
    alone = n * LINKED * d / 512 if choice.kind == HNSW else choice.bytes / 5e8
    parts = 4 * min(TOGETHER, max(1, choice.bytes)) + 3 * FLOAT * d * choice.lists
    worker = choice.bytes + RESIDENT if choice.kind == HNSW else parts
    moved = READ * HALF * d + MOVED * 2 * (choice.code_bytes + ID_BYTES)
    return PassEstimate(
        name=f"index of {modality}s", seconds=shared / actors + alone, driver_bytes=DRIVER_BYTES,
        worker_bytes=WORKER_BYTES + worker, files=2, requests=8 * extent.shards, moved_bytes=n * moved, alone=choice.kind == HNSW)
