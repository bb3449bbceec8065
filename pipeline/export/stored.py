"""What an export wrote beside its output shards, read again: sizes.json, wids.json, meta.json (which is last)."""

from typing import Any

from pipeline.store.store import Store

SIZES, META, SHARDLIST = "sizes.json", "meta.json", "wids.json"


def has_export(store: Store, folder: str) -> bool:
    """Whether the export in this folder is whole."""
    return store.exists(f"{folder}/{META}")


def stored_meta(store: Store, folder: str) -> dict[str, Any]:
    """Counts and facts of an export, DataComp's fields and ours. Raises FileNotFoundError before the export is whole."""
    meta: dict[str, Any] = store.read_json(f"{folder}/{META}")
    return meta


def stored_sizes(store: Store, folder: str) -> dict[str, int]:
    """Samples by the name of each tar, in their order. Raises FileNotFoundError before the export is whole."""
    sizes: dict[str, int] = store.read_json(f"{folder}/{SIZES}")
    return sizes


def stored_shardlist(store: Store, folder: str) -> list[dict[str, Any]]:
    """`url`, `nsamples` and `filesize` (bytes) of each tar. Raises FileNotFoundError before the export is whole."""
    shardlist: list[dict[str, Any]] = store.read_json(f"{folder}/{SHARDLIST}")["shardlist"]
    return shardlist
