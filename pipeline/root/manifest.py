"""The manifest of a finished run: size and SHA-256 of every file whose bytes are promised (design decision 1).

Written just before `_SUCCESS`, which carries its hash. `verify` reads every file against it; a rerun looks at sizes, so that
a file that was deleted or cut is made again.
"""

import hashlib
from collections.abc import Collection, Iterator
from typing import Any

from pipeline.errors import RootError
from pipeline.export.stored import has_export, stored_meta
from pipeline.outputs import BESIDE_SHARDS, BY_NAME
from pipeline.plan import Plan
from pipeline.store.blocks.index import block_of, blocks_among, blocks_with
from pipeline.store.store import Store
from pipeline.store.tables import read_many_facts

MANIFEST = "manifest.json"
PIECE = 1 << 20


def folders(plan: Plan) -> dict[str, bool]:
    """Every folder that this plan's outputs are in, and whether it has a file for each input shard."""
    tables = {path: BY_NAME[name].per_shard for name, path in plan.folders.items() if path is not None}
    return {**dict.fromkeys(plan.columns.folders.values(), True), **tables}


def sizes(plan: Plan) -> dict[str, int]:
    """Bytes of the promised files of this plan that are there, by path: one listing for each folder. Other inputs' columns may
    share a folder: they are not ours."""
    shard_ids = {shard.shard_id for shard in plan.shards}
    found: dict[str, int] = {}
    for folder, per_shard in folders(plan).items():
        listed = plan.root.sizes(folder)
        ours = blocks_with(plan.root, folder, listed, shard_ids) if per_shard else set()
        for name, size in sorted(listed.items()):   # a listing has an order of its own
            if not per_shard or not is_shard_file(name) or block_of(name) in ours or of_shards(name, shard_ids):
                found[f"{folder}/{name}"] = size
    top = plan.root.sizes()
    return found | {name: top[name] for name in ("run.json", "current.json")}


def of_shards(name: str, shard_ids: Collection[str]) -> bool:
    """Whether a file is of one of these shards: its name is a shard's id and what comes after a dot."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in shard_ids for end in range(1, len(parts)))


def is_shard_file(name: str) -> bool:
    """Whether a file, in a folder that has files for each input shard, is of one shard."""
    return name.endswith((".parquet", ".npy")) and name not in BESIDE_SHARDS


def write_manifest(plan: Plan) -> str:
    """Writes the manifest and returns its SHA-256."""
    known = stored_hashes(plan)
    entries = {path: {"size": size, "sha256": known[path]} if path in known else file_record(plan.root, path)
               for path, size in sizes(plan).items()}
    plan.root.write_json(MANIFEST, {"files": entries})
    return str(file_record(plan.root, MANIFEST)["sha256"])


def stored_hashes(plan: Plan) -> dict[str, str]:
    """SHA-256 of the files that are most of a root's bytes, by path, as they were hashed when they were written: vectors, whose
    hashes are in the footer of their shard's columns, and output shards. So a finished run is not read again."""
    store, hashes = plan.root, dict[str, str]()
    for folder in plan.columns.folders.values():
        names = set(store.names(folder))
        if not any(name.endswith(".npy") for name in names):
            continue
        tables = [f"{shard.shard_id}.parquet" for shard in plan.shards if f"{shard.shard_id}.parquet" in names]
        tables += [f"{block}.parquet" for block in sorted(blocks_among(names))]
        for facts in read_many_facts(store, [f"{folder}/{name}" for name in tables]):
            hashes |= {f"{folder}/{name}": digest for name, digest in facts["files"].items()}
    if has_export(store, plan.export):
        hashes |= {f"{plan.export}/{name}": digest for name, digest in stored_meta(store, plan.export)["sha256"].items()}
    return hashes


def file_record(store: Store, path: str) -> dict[str, Any]:
    """Size in bytes and SHA-256 (hex) of a file. Raises FileNotFoundError."""
    digest, size = hashlib.sha256(), 0
    with store.open(path) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


def read_manifest(store: Store) -> dict[str, dict[str, Any]]:
    """Size and hash of each file, by its path. Raises ValueError when the file is no manifest, FileNotFoundError when there is
    none, RootError for a path that leaves the root: what a manifest names may be removed, and another's root may name
    anything."""
    stored = store.read_json(MANIFEST)
    if not isinstance(stored, dict) or not isinstance(stored.get("files"), dict):
        raise ValueError(f"{MANIFEST} is not a manifest")
    entries: dict[str, dict[str, Any]] = stored["files"]
    for path in entries:
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise RootError(f"{store.url}/{MANIFEST} names {path!r}, which shardmill never wrote: use another --output")
    return entries


def damaged_sizes(store: Store) -> list[str]:
    """Paths of the manifest that are missing or have another size: what a listing can tell, without reading a byte."""
    entries = read_manifest(store)
    sizes: dict[str, int] = {}
    for folder in sorted({path.rpartition("/")[0] for path in entries}):
        prefix = f"{folder}/" if folder else ""
        sizes |= {f"{prefix}{name}": size for name, size in store.sizes(folder).items()}
    return [path for path, entry in entries.items() if sizes.get(path) != entry["size"]]


def faults(store: Store) -> Iterator[str]:
    """One sentence for every file of the manifest that is missing or whose bytes are not those that were written. Raises as
    `read_manifest` does."""
    for path, entry in read_manifest(store).items():
        if not store.exists(path):
            yield f"{path} is missing"
        elif file_record(store, path) != entry:
            yield f"{path}: its bytes are not those that were written"


def discard(store: Store, path: str) -> None:
    """Removes a damaged file and what says that it is done, so that the run makes it again. Raises RootError where a link
    leads out of the root: nothing is removed behind it."""
    folder, _, name = path.rpartition("/")
    if folder.startswith("tables/"):
        store.remove(folder)
    elif folder.startswith("exports/"):
        stem = name.partition(".")[0].partition("_")[0]
        for part in (f"{stem}_stats.json", f"{stem}.parquet", f"{stem}.tar"):
            store.remove(f"{folder}/{part}")
    elif folder.startswith("columns/") and name.endswith(".npy"):
        store.remove(f"{folder}/{name.rsplit('.', 2)[0]}.parquet")
        store.remove(path)
    else:
        store.remove(path)
