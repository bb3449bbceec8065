"""The indexes of a root's folder: what index.json says of them, and each opened from its file."""

import tempfile
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from pipeline.errors import RootError
from pipeline.search.index.ids import ShardNumbers
from pipeline.search.index.opened import PIECE, OpenIndex, opened
from pipeline.store.store import Store
from pipeline.store.tables import read_table
from schemas.indexes import IndexFile, IndexRecord

INDEX, SHARDS = "index.json", "shards.parquet"


def read_record(store: Store, folder: str) -> IndexRecord:
    """What index.json says. Raises RootError where there is none, or it is damaged."""
    try:
        return IndexRecord.model_validate_json(store.read(f"{folder}/{INDEX}"))
    except FileNotFoundError:
        raise RootError(f"{store.url} has no index in {folder}: run its command again, with --set index.of=kept") from None
    except ValidationError as error:
        raise RootError(
            f"{store.url}/{folder}/{INDEX} is damaged ({error.error_count()} errors): remove {folder} and run again") from None


def read_numbers(store: Store, folder: str) -> ShardNumbers:
    """The numbers of the shards in the ids of a folder's indexes: some 100 bytes of each."""
    return ShardNumbers(read_table(store, f"{folder}/{SHARDS}", ["shard_id"]).column("shard_id").to_pylist())


def open_index(store: Store, folder: str, record: IndexFile, *, hashed: bool = True) -> OpenIndex:
    """One of a folder's indexes. Where the store is local its file is mapped; else it is copied to a local file without a name
    first, and that is mapped. Raises RootError where it is not as its record says; `hashed` as in `opened`."""
    path = f"{folder}/{record.file}"
    if store.local is not None:
        return opened(store.local / path, record, hashed=hashed)
    with tempfile.NamedTemporaryFile() as copy:   # FAISS keeps the map when the name goes
        _copied(store, path, copy)
        return opened(Path(copy.name), record, hashed=hashed)


def _copied(store: Store, path: str, into: IO[bytes]) -> None:
    try:
        with store.open(path) as file:
            while piece := file.read(PIECE):
                into.write(piece)
    except FileNotFoundError:
        raise RootError(f"{store.url}/{path} is missing: remove its folder and run the root's command again") from None
    into.flush()
