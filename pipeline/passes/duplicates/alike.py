"""Pairs of looks within the radius, by one part of one band."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from pipeline.passes.duplicates.files import BandPart, Cut, sliced
from pipeline.reduce.duplicates.sketches import WIDTH, may_correlate
from pipeline.search.bands import BandIndex, Found, Hashes
from pipeline.shuffle.parts import Parts, fixed_bytes, parts_file
from pipeline.vectors import Bools, Bytes, Ints
from pipeline.work import Facts, PlainWork, Units, beat

CROWD = 256
"""Pairs of one picture that are listed, about: those between two that have more are found one after another (`lookalikes.greedy`),
where a picture that goes is not looked at any further. A million noisy copies of one are a million million pairs."""
SKETCHES = 1 << 18
"""Pairs whose sketches are compared at a time."""
PAIRS = pa.schema([("row", pa.int64()), ("of", pa.int64()), ("bits", pa.int32())])


@dataclass(frozen=True)
class _Looks:
    """Looks of a part, by the value of the band and by hash."""

    hashes: Hashes
    """The distinct ones."""
    counts: Ints
    """How many rows have each."""
    rows: Ints
    sketches: Bytes

    @cached_property
    def starts(self) -> Ints:
        """Place of the first row of each hash."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def crowds(self) -> Bools:
        """Whether so many rows share a hash that they are compared one after another."""
        return self.counts > CROWD

    @classmethod
    def of(cls, cut: Cut, band: int, part: int) -> "_Looks":
        paths = [cut.path("band", band, number) for number in range(cut.exchange.partitions)]
        table = pa.concat_tables(list(Parts(cut.store, paths, part)))
        hashes = np.asarray(table.column("phash"))
        rows = np.asarray(table.column("row"))
        order = np.lexsort((rows, hashes, *([cut.bands[band].values(hashes)] if cut.bands else [])))
        ordered = hashes[order]
        first = np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]) != 0)
        counts = np.diff(np.append(first, len(ordered)))
        return cls(ordered[first], counts, rows[order], fixed_bytes(table.column("sketch"), WIDTH)[order])


@dataclass(frozen=True)
class Alike(PlainWork[BandPart]):
    """Writes `pairs` (part 0: row, of, bits; part 1: the crowded rows), and `loose` (the rows of both, by group)."""

    cut: Cut

    @property
    def units(self) -> Units:
        return Units("part of a band")

    def run(self, item: BandPart) -> Facts:
        pairs, crowded = self._all_crowded(item) if not self.cut.bands else self._found(item)
        cut = self.cut
        loose = np.unique(np.concatenate([np.asarray(pairs.column("row")), np.asarray(pairs.column("of")), crowded]))
        rows = pa.table({"row": loose})
        with parts_file(cut.store, cut.path("loose", *item), rows.schema) as add:
            for part in sliced(rows, cut.group_of(loose), len(cut.groups)):
                add(part)
        with parts_file(cut.store, cut.path("pairs", *item), PAIRS) as add:
            add(pairs)
            add(_table(crowded, np.full(len(crowded), -1), np.zeros(len(crowded), np.int32)))
        return {"rows": pairs.num_rows, "crowded": len(crowded)}

    def _all_crowded(self, item: BandPart) -> tuple[pa.Table, Ints]:
        """Where the radius is too wide for bands."""
        rows = _Looks.of(self.cut, item.band, item.part).rows
        return PAIRS.empty_table(), rows

    def _found(self, item: BandPart) -> tuple[pa.Table, Ints]:
        cut, band = self.cut, self.cut.bands[item.band]
        base = _Looks.of(cut, *item)
        index = BandIndex(cut.bands, item.band, base.hashes, cut.fixed, item.part)
        tables, crowded, met = [PAIRS.empty_table()], [np.empty(0, np.int64)], np.zeros(len(base.rows), np.int32)
        in_crowd = np.repeat(base.crowds, base.counts)
        for part in range(item.part, 1 << cut.fixed):
            if (part ^ item.part).bit_count() > band.radius:
                continue
            own = part == item.part
            queries = base if own else _Looks.of(cut, item.band, part)
            met_queries = met if own else np.zeros(len(queries.rows), np.int32)
            queries_in_crowd = in_crowd if own else np.repeat(queries.crowds, queries.counts)
            for found in self._of_hashes(index, queries, own):
                of_crowds = queries.crowds[found.query] & base.crowds[found.base]
                for pairs in self._may_be_alike(found.where(~of_crowds), queries, base):
                    np.add.at(met_queries, pairs.query, 1)
                    np.add.at(met, pairs.base, 1)
                    both = (met_queries[pairs.query] > CROWD) & (met[pairs.base] > CROWD)
                    queries_in_crowd[pairs.query[both]] = in_crowd[pairs.base[both]] = True
                    tables.append(_table(queries.rows[pairs.query[~both]], base.rows[pairs.base[~both]], pairs.bits[~both]))
                beat()
            crowded.append(queries.rows[queries_in_crowd])
        crowded.append(base.rows[in_crowd])
        return pa.concat_tables(tables), np.unique(np.concatenate(crowded))

    def _of_hashes(self, index: BandIndex, queries: _Looks, own: bool) -> Iterator[Found]:
        """Pairs of distinct hashes; and of each with itself, which the first band finds."""
        yield from index.pairs(queries.hashes, self.cut.radius, itself=own)
        if own and index.number == 0:
            shared = np.flatnonzero(queries.counts > 1)
            yield Found(shared, shared, np.zeros(len(shared), np.int32))

    def _may_be_alike(self, found: Found, queries: _Looks, base: _Looks) -> Iterator[Found]:
        """Of the pairs of rows that have these hashes, those whose sketches allow it; by the places of the rows."""
        per_base = base.counts[found.base]
        ends = np.cumsum(queries.counts[found.query] * per_base)
        for at in range(0, int(ends[-1]) if len(ends) else 0, SKETCHES):
            number = np.arange(at, min(at + SKETCHES, int(ends[-1])))
            pair = np.searchsorted(ends, number, side="right")
            within = number - (ends[pair] - queries.counts[found.query[pair]] * per_base[pair])
            row = queries.starts[found.query[pair]] + within // per_base[pair]
            of = base.starts[found.base[pair]] + within % per_base[pair]
            good = (queries.hashes[found.query[pair]] != base.hashes[found.base[pair]]) | (row < of)
            row, of, bits = row[good], of[good], found.bits[pair[good]]
            good = may_correlate(queries.sketches[row], base.sketches[of], self.cut.correlation)
            yield Found(row[good], of[good], bits[good])


def _table(row: Ints, of: Ints, bits: np.ndarray) -> pa.Table:
    return pa.table([row, of, bits], schema=PAIRS)
