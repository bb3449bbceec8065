"""What a clustering costs before it starts: floating-point work, memory, bytes on the wire, time at a measured rate.

The work of a pass over n rows of d values and k centres is 2 n k d; everything else is small beside it, or moves k d values.
"""

import math
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.quantities import size
from pipeline.reduce.kmeans.schedule import COARSE, EXACT, SAMPLE, Schedule
from pipeline.reduce.kmeans.seeding import CELL_ROWS_PER_SEED, CELL_STEPS, COARSE_STEPS, MIN_ROWS, ROWS_PER_SEED, cells_for

ACTOR_BYTES = 300 << 20
"""What an actor holds beside its centres: windows of rows, tiles of scores, the allocator's reserve."""
ACTOR_CENTRES = 3
"""Times the centres (float32) that an actor holds: packed for search once, and as int64 sums (twice)."""
BANDWIDTH = 25e9 / 8
"""Bytes a second between nodes: 25 Gbit/s, an assumption."""


@dataclass(frozen=True)
class PassCost:
    """Passes of one kind over the same rows, and what they compare."""

    name: str
    rows: int
    centres: int
    """Centres that each row is compared with."""
    times: int = 1
    spread: bool = True
    """Whether all actors share it and sums and new centres follow. False: it is work within one actor."""

    def flops(self, d: int) -> int:
        """Floating-point operations on rows of d values: a multiplication and an addition for each value of each pair."""
        return 2 * self.rows * self.centres * d * self.times


def pass_costs(schedule: Schedule, rows: int, k: int) -> tuple[PassCost, ...]:
    """The passes of a fit by this schedule over `rows` rows and k centres, if no phase ends early, and the one that labels."""
    costs = [*_seeding(schedule, rows, k)]
    for kind in dict.fromkeys(schedule.kinds):
        times = schedule.kinds.count(kind)
        rows_compared = min(rows, schedule.sample_rows * k) if kind == SAMPLE else rows
        centres = {EXACT: k, SAMPLE: k, COARSE: cells_for(k) + 4 * schedule.neighbours}.get(kind, schedule.neighbours)
        costs.append(PassCost(kind, rows_compared, min(k, centres) if kind != COARSE else centres, times))
    return (*costs, PassCost("labels", rows, k))


def _seeding(schedule: Schedule, rows: int, k: int) -> list[PassCost]:
    """Greedy k-means++ compares every sampled row with 2 + ln k candidates per seed; a step multiplies rows and centres
    twice, to find the nearest and to add up."""
    if not schedule.cells:
        return [PassCost("seeds", min(rows, max(MIN_ROWS, ROWS_PER_SEED * k)), k * (2 + int(math.log(k))), spread=False)]
    cells, sample = cells_for(k), min(rows, schedule.seed_rows * k)
    per_cell = max(1, k // cells)
    candidates = 2 + int(math.log(per_cell))   # of k-means++, per seed
    rows_of_cells = min(rows, ROWS_PER_SEED * cells)
    return [
        PassCost("coarse cells", rows_of_cells, cells * (2 + int(math.log(cells)) + 2 * COARSE_STEPS), spread=False),
        PassCost("cell of each sampled row", sample, cells),
        PassCost("seeds", sample, per_cell * (candidates * CELL_ROWS_PER_SEED // schedule.seed_rows + 2 * CELL_STEPS)),
    ]


@dataclass(frozen=True)
class Machines:
    """What a clustering would run on."""

    nodes: int
    actors: int
    """Actors on all nodes together."""
    rate: float
    """Floating-point operations a second of one actor, measured on centres of this shape."""
    memory: int | None = None
    """Bytes of one node; None: not known."""


@dataclass(frozen=True)
class Costs:
    """What `passes` over rows of d values cost with k centres on `machines`."""

    passes: tuple[PassCost, ...]
    k: int
    d: int
    rows: int
    machines: Machines

    @property
    def flops(self) -> int:
        """Floating-point operations of all passes."""
        return sum(cost.flops(self.d) for cost in self.passes)

    @property
    def centres(self) -> int:
        """Bytes of all centres as float32."""
        return 4 * self.k * self.d

    @property
    def actor_memory(self) -> int:
        """Bytes of one actor that are its own: the rows themselves are mapped files, which memory holds as far as it goes."""
        return ACTOR_CENTRES * self.centres + ACTOR_BYTES + 8 * -(-self.rows // self.machines.actors)

    @property
    def node_memory(self) -> int:
        """Bytes of one node: its actors, one shared copy of the centres, and their new ones."""
        return -(-self.machines.actors // self.machines.nodes) * self.actor_memory + 2 * self.centres

    @property
    def wire(self) -> int:
        """Bytes over the network, in all: each actor sends its int64 sums, each node gets the new centres."""
        rounds = sum(cost.times for cost in self.passes if cost.spread)
        sums = self.machines.actors * self.k * (8 * self.d + 8)
        return 0 if self.machines.nodes == 1 else rounds * (sums + self.machines.nodes * self.centres)

    @property
    def seconds(self) -> float:
        """The time that it takes at the measured rate, with nodes that send and receive at once at BANDWIDTH."""
        alone = sum(cost.flops(self.d) for cost in self.passes if not cost.spread) / self.machines.rate
        together = sum(cost.flops(self.d) for cost in self.passes if cost.spread) / (self.machines.rate * self.machines.actors)
        return alone + together + self.wire / self.machines.nodes / BANDWIDTH

    def check(self) -> None:
        """Raises InputError, with what would fit, when a node has not the memory."""
        limit = self.machines.memory
        if limit is None or self.node_memory <= limit:
            return
        raise InputError(
            f"{self.k:,} classes of {self.d} values need {size(self.node_memory)} on a node of {size(limit)} "
            f"({ACTOR_CENTRES} x {size(self.centres)} for each of its {self._per_node} workers and 2 x for the node): "
            + self._remedy(limit))

    @property
    def _per_node(self) -> int:
        return -(-self.machines.actors // self.machines.nodes)

    def _remedy(self, limit: int) -> str:
        actors = int((limit - 2 * self.centres) // self.actor_memory)
        if actors >= 1:
            return f"start it with --workers {actors * self.machines.nodes}"
        fixed_bytes = 8 * self.rows // self.machines.actors + ACTOR_BYTES
        largest_k = max(0, (limit - fixed_bytes) // ((ACTOR_CENTRES + 2) * 4 * self.d))
        return f"one worker per node can hold classes.k={largest_k:,}, or take nodes with more memory"
