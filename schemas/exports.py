"""The sidecar parquet of an exported shard: one row per sample, in the order of the tar."""

import pyarrow as pa

from schemas.columns import field

EXPORT = pa.schema([
    field("key", pa.string(), "name of the sample in the exported tar"),
    field("tar_offset", pa.int64(), "bytes in the tar before its first member"),
    field("uid", pa.string(), "content identity of image and caption"),
    field("source_uid", pa.string(), "uid that the input brought, if any"),
    field("source_shard_id", pa.string(), "input shard"),
    field("source_url", pa.string(), "where that shard was read"),
    field("source_key", pa.string(), "name of the sample there"),
    field("source_row", pa.int32(), "its row there"),
    field("caption", pa.string(), "raw caption as text"),
    field("caption_encoding", pa.string(), "what its bytes at the source were taken for: utf-8 where they are this very text"),
    field("caption_raw", pa.binary(), "its bytes at the source where they are not this text in UTF-8; else null"),
    field("image_sha256", pa.string(), "of the image bytes at the source, hex"),
    field("written_image_sha256", pa.string(), "of the image bytes in the tar where the picture was encoded anew, hex; else null"),
    field("phash", pa.uint64(), "64-bit perceptual hash"),
    field("width", pa.int32(), "pixels"),
    field("height", pa.int32(), "pixels"),
    field("clip_similarity", pa.float32(), "cosine of image and caption"),
    field("entity_ids", pa.list_(pa.string()), "confirmed entities"),
    field("labels", pa.list_(pa.int32()), "nearest classes, best first"),
    field("label_weights", pa.list_(pa.float16()), "their weights"),
    field("label_levels", pa.list_(pa.list_(pa.int32())), "per coarser level the classes above the labels"),
])

# What shardmill adds to the JSON object of each exported sample. What is null or an empty list is left out: it has no type.
SAMPLE_JSON = pa.schema([
    field("uid", pa.string(), "content identity of image and caption"),
    field("clip_similarity", pa.float32(), "cosine of image and caption"),
    field("image_sha256", pa.string(), "of the image bytes at the source, hex"),
    field("entities", pa.list_(pa.struct([
        pa.field("id", pa.string()), pa.field("name", pa.string()), pa.field("z", pa.float32()),
    ])), "confirmed entities; left out, as all below, where there are none"),
    field("labels", pa.list_(pa.int32()), "nearest classes, best first"),
    field("label_weights", pa.list_(pa.float32()), "their weights"),
    field("label_names", pa.list_(pa.string()), "their names"),
    field("label_levels", pa.list_(pa.list_(pa.int32())), "per coarser level the classes above the labels"),
])
