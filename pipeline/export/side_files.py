"""The files beside the output shards that trainers look for."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.export.dataset_card import CARD, dataset_card
from pipeline.export.plan import OutputShard
from pipeline.export.stored import META, SHARDLIST, SIZES
from pipeline.store.store import Store
from pipeline.store.tables import read_many


def side_files(
    store: Store, folder: str, planned: Sequence[OutputShard], facts: Mapping[str, Any], added: Sequence[pa.Field] = ()
) -> None:
    """sizes.json (open_clip), wids.json, README.md (Hugging Face's datasets), meta.json (DataComp's fields); written when every tar
    is there. `added`: columns that go out with every sample beside those of every run."""
    tars = [f"{item.name}.tar" for item in planned]
    stats = list(read_many(store, [f"{folder}/{item.name}_stats.json" for item in planned], store.read_json))
    total = sum(item.samples for item in planned)
    store.write_json(f"{folder}/{SIZES}", {tar: item.samples for tar, item in zip(tars, planned, strict=True)})
    shardlist = [
        {"url": tar, "nsamples": item.samples, "filesize": s["bytes"]} for tar, item, s in zip(tars, planned, stats, strict=True)
    ]
    store.write_json(f"{folder}/{SHARDLIST}", {"wids_version": 1, "name": "shardmill", "shardlist": shardlist})
    about = {"samples": total, "shards": len(planned), "recipe": facts["recipe"]}
    extensions = {extension for s in stats for extension in s.get("extensions", ())}
    card = dataset_card(about, extensions, added, {"sizes": SIZES, "shardlist": SHARDLIST})
    store.write(f"{folder}/{CARD}", card.encode())
    meta = {"output_count": total, "output_shard_count": len(planned), "output_shard_format": "{:06d}.tar"}
    store.write_json(f"{folder}/{META}", {**facts, **meta, "sha256": {t: s["sha256"] for t, s in zip(tars, stats, strict=True)}})
