"""Which samples of a class have which entities, hypernyms included: counted per shard, added up over the run.

An entity counts as present where a sample has it or one a few levels below it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.vectors import Ints

CELLS = pa.schema([("class", pa.int32()), ("entity", pa.string()), ("both", pa.int64()), ("above", pa.bool_())])
"""Samples of the class (by its position) that have the entity. `above`: somebody has it as a hypernym."""
BY_CELL = [("class", "ascending"), ("entity", "ascending")]


@dataclass(frozen=True)
class Presence:
    """Which sample has which entity, hypernyms included: distinct (sample, entity) pairs."""

    samples: int
    ids: tuple[str, ...]
    sample: Ints
    """i64[p]: the sample of each pair, ascending."""
    entity: Ints
    """i64[p]: the position of its entity in `ids`."""
    hypernyms: frozenset[str]
    """The entities that stand above some sample's own entity."""


@dataclass(frozen=True)
class Counts:
    """Samples per class, and per class and entity; those of two sets of samples add up."""

    sizes: Ints
    """i64[k]: samples of each class."""
    cells: pa.Table
    """CELLS, each (class, entity) once, sorted"""

    @property
    def samples(self) -> int:
        """Samples of all classes."""
        return int(self.sizes.sum())

    def grouped(self, parents: NDArray[np.int32], k: int) -> "Counts":
        """The counts of k coarser classes; `parents`, i32[number of these classes], is the position of each one's parent."""
        coarse = pa.array(parents[np.asarray(self.cells.column("class"))], pa.int32())
        sizes = np.bincount(parents, self.sizes, k).astype(np.int64)
        return Counts(sizes, merged_cells(self.cells.set_column(0, "class", coarse)))


def presence(entities: Sequence[Iterable[str]], parents: Mapping[str, Sequence[str]], levels: int) -> Presence:
    """Each sample's entities with their hypernyms up to `levels` above them."""
    numbers: dict[str, int] = {}
    above: dict[str, tuple[int, ...]] = {}
    hypernyms: set[str] = set()
    sample: list[int] = []
    entity: list[int] = []
    for row, own_ids in enumerate(entities):
        present: set[int] = set()
        for id in own_ids:
            if id not in above:
                line = ancestry(id, parents, levels)
                above[id] = tuple(numbers.setdefault(ancestor, len(numbers)) for ancestor in line)
                hypernyms.update(line[1:])
            present.update(above[id])
        sample += [row] * len(present)
        entity += sorted(present)
    rows, columns = np.array(sample, np.int64), np.array(entity, np.int64)
    return Presence(len(entities), tuple(numbers), rows, columns, frozenset(hypernyms))


def ancestry(id: str, parents: Mapping[str, Sequence[str]], levels: int) -> list[str]:
    """The entity and its hypernyms up to `levels` above it, nearest first, each once."""
    line, edge = {id: None}, [id]
    for _ in range(levels):
        edge = [up for entity in edge for up in parents.get(entity, ()) if up not in line]
        line.update(dict.fromkeys(edge))
    return list(line)


def class_counts(samples: Presence, assignment: NDArray[np.int32], k: int) -> Counts:
    """Counts the samples of k classes; `assignment`, i32[samples], is the class of each sample."""
    kinds = max(len(samples.ids), 1)
    cell, joint = np.unique(assignment[samples.sample].astype(np.int64) * kinds + samples.entity, return_counts=True)
    cls, entity = np.divmod(cell, kinds)
    ids = [samples.ids[position] for position in entity]
    above = [id in samples.hypernyms for id in ids]
    cells = pa.table([pa.array(cls, pa.int32()), pa.array(ids, pa.string()), pa.array(joint, pa.int64()), above], schema=CELLS)
    return Counts(np.bincount(assignment, minlength=k).astype(np.int64), cells.sort_by(BY_CELL))


def merged_cells(cells: pa.Table) -> pa.Table:
    """CELLS in which a (class, entity) may stand several times, added up and sorted."""
    grouped = cells.group_by(["class", "entity"], use_threads=False).aggregate([("both", "sum"), ("above", "any")])
    return grouped.rename_columns(CELLS.names).cast(CELLS).sort_by(BY_CELL)
