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


@dataclass(frozen=True)
class Presence:
    """Which sample has which entity, hypernyms included: distinct (sample, entity) pairs."""

    samples: int
    ids: tuple[str, ...]
    sample: Ints
    entity: Ints
    """Position in `ids`."""
    hypernyms: frozenset[str]
    """Those that stand above some sample's own entity."""


@dataclass(frozen=True)
class Counts:
    """Samples per class, and per class and entity; those of two sets of samples add up."""

    sizes: Ints
    """[k]"""
    cells: pa.Table
    """CELLS, each (class, entity) once, sorted"""

    @property
    def samples(self) -> int:
        return int(self.sizes.sum())

    def grouped(self, parents: NDArray[np.int32], k: int) -> "Counts":
        """The counts of the k coarser classes that these belong to."""
        coarse = pa.array(parents[np.asarray(self.cells.column("class"))], pa.int32())
        sizes = np.bincount(parents, self.sizes, k).astype(np.int64)
        return Counts(sizes, merged_cells(self.cells.set_column(0, "class", coarse)))


def presence(entities: Sequence[Iterable[str]], parents: Mapping[str, Sequence[str]], levels: int) -> Presence:
    """Each sample's entities and everything up to `levels` above them."""
    numbers: dict[str, int] = {}
    above: dict[str, tuple[int, ...]] = {}
    hypernyms: set[str] = set()
    sample: list[int] = []
    entity: list[int] = []
    for row, found in enumerate(entities):
        present: set[int] = set()
        for id in found:
            if id not in above:
                line = ancestry(id, parents, levels)
                above[id] = tuple(numbers.setdefault(one, len(numbers)) for one in line)
                hypernyms.update(line[1:])
            present.update(above[id])
        sample += [row] * len(present)
        entity += sorted(present)
    rows, columns = np.array(sample, np.int64), np.array(entity, np.int64)
    return Presence(len(entities), tuple(numbers), rows, columns, frozenset(hypernyms))


def ancestry(id: str, parents: Mapping[str, Sequence[str]], levels: int) -> list[str]:
    """The entity and what is up to `levels` above it, nearest first, each once."""
    seen, edge = {id: None}, [id]
    for _ in range(levels):
        edge = [up for one in edge for up in parents.get(one, ()) if up not in seen]
        seen.update(dict.fromkeys(edge))
    return list(seen)


def counted(found: Presence, assignment: NDArray[np.int32], k: int) -> Counts:
    """`assignment`: the class of each sample."""
    kinds = max(len(found.ids), 1)
    cell, both = np.unique(assignment[found.sample].astype(np.int64) * kinds + found.entity, return_counts=True)
    cls, entity = np.divmod(cell, kinds)
    ids = [found.ids[one] for one in entity]
    above = [id in found.hypernyms for id in ids]
    cells = pa.table([pa.array(cls, pa.int32()), pa.array(ids, pa.string()), pa.array(both, pa.int64()), above], schema=CELLS)
    return Counts(np.bincount(assignment, minlength=k).astype(np.int64), merged_cells(cells))


def merged_cells(cells: pa.Table) -> pa.Table:
    """CELLS in which a (class, entity) may stand several times, added up and sorted."""
    grouped = cells.group_by(["class", "entity"], use_threads=False).aggregate([("both", "sum"), ("above", "any")])
    return grouped.rename_columns(CELLS.names).cast(CELLS).sort_by([("class", "ascending"), ("entity", "ascending")])
