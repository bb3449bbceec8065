"""Which samples each output shard has, made before any work and from counts alone.

Input shards are shuffled by seed and taken in groups of G, the kept rows of a group are shuffled together (in a balanced export
each as often as it is taken), and the whole sequence is cut into shards of a number of samples. So an output tar depends on
verdicts, labels, copies, seed and G, never on who wrote it or when.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.input.discovery import Shard
from pipeline.select.stored import kept_rows
from pipeline.store.store import Store
from pipeline.store.tables import read_columns


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of one shuffled group of input shards."""

    shards: tuple[Shard, ...]
    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class OutputShard:
    """A tar of the export, by what goes into it."""

    index: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        return f"{self.index:06d}"

    def __str__(self) -> str:
        return self.name

    @property
    def samples(self) -> int:
        """How many it has, repeats counted."""
        return sum(part.stop - part.start for part in self.parts)


def plan_export(
    shards: Sequence[Shard], kept: Mapping[str, int], *, size: int, group: int, seed: int | None
) -> list[OutputShard]:
    """The output shards: all of `size` samples, the last excepted. No seed: input order, nothing shuffled."""
    order = list(shards)
    if seed is not None:
        order = [order[i] for i in np.random.default_rng([seed, 0]).permutation(len(order))]
    groups = [tuple(order[i : i + group]) for i in range(0, len(order), group)]
    planned: list[OutputShard] = []
    parts: list[Part] = []
    room = size
    for number, members in enumerate(groups):
        position, end = 0, sum(kept[shard.shard_id] for shard in members)
        while position < end:
            step = min(room, end - position)
            parts.append(Part(members, number, position, position + step))
            position, room = position + step, room - step
            if room == 0:
                planned.append(OutputShard(len(planned), tuple(parts)))
                parts, room = [], size
    if parts:
        planned.append(OutputShard(len(planned), tuple(parts)))
    return planned


def part_rows(part: Part, kept: Mapping[str, NDArray[np.int32]], seed: int | None) -> list[tuple[str, int]]:
    """(shard_id, row) of a part's samples in output order; `kept` gives the rows of each shard that are exported, ascending."""
    rows = [(shard.shard_id, int(row)) for shard in part.shards for row in kept[shard.shard_id]]
    if seed is not None:
        order = np.random.default_rng([seed, 1, part.group]).permutation(len(rows))
        rows = [rows[i] for i in order]
    return rows[part.start : part.stop]


def times_taken(store: Store, copies: str, shard_id: str) -> NDArray[np.int32]:
    """i32[rows]: how often each sample of a shard is exported."""
    return np.asarray(read_columns(store, copies, shard_id, ["copies"]).column("copies"), np.int32)


def taken_rows(store: Store, verdicts: str, copies: str | None, shard_id: str) -> NDArray[np.int32]:
    """Rows of a shard that are exported, ascending, each as often as it is."""
    if copies is None:
        return kept_rows(store, verdicts, shard_id)
    times = times_taken(store, copies, shard_id)
    return np.repeat(np.arange(len(times), dtype=np.int32), times)
