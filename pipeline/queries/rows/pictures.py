"""The image of a sample, out of the input shard that it was read from."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.input.discovery import Shard
from pipeline.input.reader import fetch

READ = ("key", "shard_id", "row", "location", "image_offset", "image_length", "sha256")
"""The columns that say where an image is, and what its bytes were."""


def image_bytes(shard: Shard, sample: Mapping[str, Any]) -> bytes:
    """The encoded image of a sample (its READ columns), as it lies in the shard. Raises InputError for a sample without an image,
    and where the shard is gone or has other bytes now."""
    key = sample["key"]
    if not sample["image_length"] or sample["image_offset"] is None:
        raise InputError(f"sample {key!r} of {shard.url} has no image bytes")
    nothing = pa.nulls(1, pa.int64())
    place = pa.table({name: pa.array([sample[name]]) for name in READ}).append_column("json_offset", nothing)
    try:
        [(content, _)] = fetch(shard, place.append_column("json_length", nothing))
    except FileNotFoundError as error:
        raise InputError(f"input shard {shard.url} is no longer there, and with it the image of sample {key!r}") from error
    if hashlib.sha256(content).hexdigest() != sample["sha256"]:
        raise InputError(f"input shard {shard.url} changed since it was read: sample {key!r} has other bytes now; run again")
    return content
