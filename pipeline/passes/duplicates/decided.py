"""Which of the pictures that may be alike are, and which go: one worker, which holds 40 bytes of each of those, their pairs, and
their thumbnails in a file of its own where they are many; not the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from tempfile import TemporaryFile
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.passes.duplicates.files import BandPart, Cut, sliced
from pipeline.passes.duplicates.pictures import THUMBNAIL_BYTES
from pipeline.reduce.duplicates.groups import preferred_first
from pipeline.reduce.duplicates.lookalikes import DuplicatePairs, LookalikeRule, Pictures, causes, greedy, no_pairs
from pipeline.shuffle.parts import fixed_bytes, parts_file, read_part
from pipeline.vectors import Bools, Bytes, Ints
from pipeline.work import Facts, PlainWork, Units, beat

HELD = 1 << 18
"""Thumbnails that are held in memory: 200 MB. More are in a temporary file."""
NEAR = pa.schema([("row", pa.int64()), ("of", pa.int64()), ("hamming", pa.int32()), ("correlation", pa.float32()),
                  ("removed", pa.bool_())])


class Decided(NamedTuple):
    """The one item of this work."""

    number: int = 0

    def __str__(self) -> str:
        return f"{self.number:06d}"


@dataclass(frozen=True)
class Decide(PlainWork[Decided]):
    """Writes `causes` (of each picture that goes, the pair that removes it), and `near` (all pairs by row, a part for each group)
    of NEAR."""

    cut: Cut
    band_parts: tuple[BandPart, ...]

    @property
    def units(self) -> Units:
        return Units("search", "picture")

    def run(self, item: Decided) -> Facts:
        cut = self.cut
        with self._pictures() as (rows, pictures):
            by_row = np.argsort(rows)
            crowded = np.zeros(len(rows), bool)
            for part in self.band_parts:
                crowded[self._places(rows, by_row, read_part(cut.store, cut.path("pairs", *part), 1), "row")] = True
            parts = [no_pairs()]
            for part in self.band_parts:
                parts.append(self._confirmed(pictures, rows, by_row, crowded, part))
                beat()
            known = DuplicatePairs.joined(parts)
            pairs, _ = greedy(pictures, crowded, known.where(np.argsort(known.row, kind="stable")))
            why = causes(pairs)
        found = _table(pairs, rows).sort_by([("row", "ascending"), ("of", "ascending")])
        with parts_file(cut.store, cut.path("causes", item.number), NEAR) as add:
            add(_table(why, rows).sort_by("row"))
        with parts_file(cut.store, cut.path("near", item.number), NEAR) as add:
            for part_of_group in sliced(found, cut.group_of(np.asarray(found.column("row"))), len(cut.groups)):
                add(part_of_group)
        return {"rows": len(rows), "crowded": int(crowded.sum())}

    @contextmanager
    def _pictures(self) -> Iterator[tuple[Ints, Pictures]]:
        """The global rows i64[n], the preferred first, and their pictures."""
        cut = self.cut
        paths = [cut.path("looks", group.number) for group in cut.groups]
        known = pa.concat_tables([read_part(cut.store, path, 0).select(["row", "pixels", "phash"]) for path in paths])
        rows, pixels = (np.asarray(known.column(name)) for name in ("row", "pixels"))
        order = preferred_first(pixels, rows)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        hashes = np.asarray(known.column("phash"))[order].view(np.uint8).reshape(-1, 8)
        with _space(len(order)) as thumbnails:
            at = 0
            for path in paths:
                part = fixed_bytes(read_part(cut.store, path, 0).column("thumbnail"), THUMBNAIL_BYTES)
                thumbnails[place[at : at + len(part)]] = part
                at += len(part)
            yield rows[order], Pictures(hashes, thumbnails, LookalikeRule(cut.radius, cut.correlation))

    @staticmethod
    def _places(rows: Ints, by_row: Ints, table: pa.Table, name: str) -> Ints:
        """The places, in order of preference, of a column of rows."""
        return by_row[np.searchsorted(rows, np.asarray(table.column(name)), sorter=by_row)]

    def _confirmed(self, pictures: Pictures, rows: Ints, by_row: Ints, crowded: Bools, part: BandPart) -> DuplicatePairs:
        """The pairs of a part that are alike, but those of two crowded pictures."""
        table = read_part(self.cut.store, self.cut.path("pairs", *part), 0)
        one, other = self._places(rows, by_row, table, "row"), self._places(rows, by_row, table, "of")
        listed = ~(crowded[one] & crowded[other])
        one, other = one[listed], other[listed]
        return pictures.confirmed(np.maximum(one, other), np.minimum(one, other), np.asarray(table.column("bits"))[listed])


@contextmanager
def _space(count: int) -> Iterator[Bytes]:
    """u8[count, THUMBNAIL_BYTES], to be filled."""
    shape = (count, THUMBNAIL_BYTES)
    if count <= HELD:
        yield np.empty(shape, np.uint8)
        return
    with TemporaryFile() as file:
        yield np.memmap(file, np.uint8, "w+", shape=shape)


def _table(pairs: DuplicatePairs, rows: Ints) -> pa.Table:
    pairs = replace(pairs, row=rows[pairs.row], of=rows[pairs.of])
    return pa.table([pairs.row, pairs.of, pairs.hamming, pairs.correlation, pairs.removed], schema=NEAR)
