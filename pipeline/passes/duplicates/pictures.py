"""What is compared of each picture, on its way to the partitions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.columns import Columns, RunShard, bundles, shard_ids_of
from pipeline.reduce.duplicates.lookalikes import varied
from pipeline.reduce.duplicates.sketches import sketches
from pipeline.search.bands import spread
from pipeline.shuffle.exchange import Group, Scattered
from pipeline.shuffle.keys import bytes_keys, hex_keys, partition_of, table_of
from pipeline.shuffle.parts import fixed_bytes, fixed_column
from pipeline.store.blocks.several import columns_of
from pipeline.vectors import Ints

THUMBNAIL_BYTES = 768
"""16 x 16 RGB."""
SHA, UID, LOOK = ("sha_high", "sha_low"), ("uid_high", "uid_low"), ("look_high", "look_low")
MIX = np.uint64(0x9E3779B97F4A7C15)
"""2^64 / golden ratio: products with it are well spread in their high bits."""


@dataclass(frozen=True)
class PictureRows:
    """The pictures of a group whose hashes are all there: the global row, pixels, keys of the bytes, of the content and of the
    look, the hash, and a sketch of the thumbnail. Without `near`, nothing of the last three."""

    columns: Columns
    near: bool
    partitions: int

    def __call__(self, group: Group) -> Scattered:
        parts = [self._of(shards) for shards in bundles(group.shards)]
        return pa.concat_tables([table for table, _ in parts]), np.concatenate([partition for _, partition in parts])

    def _of(self, shards: Sequence[RunShard]) -> Scattered:
        first_row = shards[0].first_row
        hashes, pixels = pictures_of(self.columns, shards, ["sha256", "phash", *["thumbnail"] * self.near])
        uid = columns_of(self.columns.store, self.columns.folders["samples"], shard_ids_of(shards), ["uid"])
        place = np.flatnonzero(np.asarray(hashes.column("phash").is_valid()))
        hashes, uid = hashes.take(pa.array(place)), uid.take(pa.array(place))
        sha = hex_keys(hashes.column("sha256"))
        columns = {
            "row": pa.array(first_row + place), "pixels": pa.array(pixels[place]), **table_of(sha, SHA),
            **table_of(hex_keys(uid.column("uid")), UID),
        }
        if not self.near:
            return pa.table(columns), partition_of(sha, self.partitions)
        phash = np.asarray(hashes.column("phash"), np.uint64)
        thumbnails = fixed_bytes(hashes.column("thumbnail"), THUMBNAIL_BYTES)
        of_look = varied(thumbnails)
        columns |= {"phash": pa.array(spread(phash)), "varied": pa.array(of_look), "sketch": fixed_column(sketches(thumbnails)),
                    **table_of(bytes_keys(map(bytes, thumbnails)), LOOK)}
        # The same bytes give the same picture, so rows that are equal in bytes or in looks have the hash in common.
        key = np.where(of_look[:, None], (phash * MIX)[:, None], sha)
        return pa.table(columns), partition_of(key, self.partitions)


def pictures_of(columns: Columns, shards: Sequence[RunShard], names: list[str]) -> tuple[pa.Table, Ints]:
    """Columns of the hashes of some shards, and the pixels of their pictures, i64 [rows]; 0 where there is none."""
    hashes = columns_of(columns.store, columns.folders["hashes"], shard_ids_of(shards), names)
    image = columns_of(columns.store, columns.folders["image"], shard_ids_of(shards), ["pixels"])
    return hashes, np.asarray(image.column("pixels").fill_null(0), np.int64)
