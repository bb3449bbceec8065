"""Manifests of roots that tests have changed on purpose."""

from collections.abc import Iterable

import pyarrow as pa

from pipeline.root.entries import MANIFEST, Entry, entries, file_record
from pipeline.store.store import Store
from pipeline.store.tables import write_table
from schemas.tables import MANIFEST as SCHEMA


def write_entries(store: Store, listed: Iterable[Entry]) -> None:
    """A manifest of these entries, and the marker that names it where there is one."""
    write_table(store, MANIFEST, pa.Table.from_pylist([entry._asdict() for entry in listed], schema=SCHEMA), {})
    if store.exists("_SUCCESS"):
        marker = store.read_json("_SUCCESS")
        store.write_json("_SUCCESS", {**marker, "manifest_sha256": file_record(store, MANIFEST)["sha256"]})


def repair(store: Store, *paths: str) -> None:
    """Manifest and _SUCCESS of files that were changed: no hash tells any longer."""
    listed = [Entry(one.path, **file_record(store, one.path)) if one.path in paths else one for one in entries(store)]
    write_entries(store, listed)
