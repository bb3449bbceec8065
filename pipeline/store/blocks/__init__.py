"""Blocks: one file for the columns of many shards, so that a run has files by its bytes and not by its shards.

`<folder>/block-<12 hex digits>.parquet` has the rows of some shards one after another, `block-<…>.<vectors>.npy` their vectors.
Its footer says which shards, and what the footer of each said; `<folder>/blocks.index` says of all shards in blocks where they
are. The name follows from the shards. A block is written once: another set of shards is another block.
"""
