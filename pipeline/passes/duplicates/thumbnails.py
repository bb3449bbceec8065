"""The pictures that may be like another, with their thumbnails: those of one group of shards."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.columns import Columns
from pipeline.passes.duplicates.files import BandPart, Cut
from pipeline.passes.duplicates.pictures import THUMBNAIL_BYTES, pictures_of
from pipeline.shuffle.exchange import Group
from pipeline.shuffle.parts import Parts, parts_file
from pipeline.work import Facts, PlainWork, Units, beat

LOOKS = pa.schema([("row", pa.int64()), ("pixels", pa.int64()), ("phash", pa.uint64()), ("thumbnail", pa.binary(THUMBNAIL_BYTES))])


@dataclass(frozen=True)
class Thumbnails(PlainWork[Group]):
    """Writes `looks` (LOOKS, one part) of a group, by row."""

    cut: Cut
    columns: Columns
    band_parts: tuple[BandPart, ...]

    @property
    def units(self) -> Units:
        return Units("group", "sample")

    def run(self, item: Group) -> Facts:
        cut = self.cut
        loose = Parts(cut.store, [cut.path("loose", *part) for part in self.band_parts], item.number)
        rows = np.unique(np.concatenate([np.empty(0, np.int64), *(np.asarray(table.column("row")) for table in loose)]))
        tables = [LOOKS.empty_table()]
        for shard, place in item.located(rows):
            hashes, pixels = pictures_of(self.columns, [shard], ["phash", "thumbnail"])
            hashes = hashes.take(pa.array(place)).combine_chunks()
            of_shard = [shard.first_row + place, pixels[place], hashes.column("phash"), hashes.column("thumbnail")]
            tables.append(pa.table(of_shard, schema=LOOKS))
            beat()
        with parts_file(cut.store, cut.path("looks", item.number), LOOKS) as add:
            add(pa.concat_tables(tables))
        return {"rows": len(rows)}
