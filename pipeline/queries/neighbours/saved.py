"""Hits as a subset that other tools read: a table, or the uids in DataComp's form."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.select.subset import DATACOMP_UID, halves
from pipeline.shuffle.keys import Keys, hex_keys, key_order
from pipeline.store.store import PARTIAL, Store, absolute
from pipeline.store.tables import npy_bytes, write_table
from schemas.answers.neighbours import Hit

FORMS = (".parquet", ".npy")
HITS = pa.schema([
    ("uid", pa.string()), ("source_uid", pa.string()), ("shard_id", pa.string()), ("row", pa.int32()), ("key", pa.string()),
    ("similarity", pa.float32()), ("caption", pa.string()), ("verdict", pa.string()), ("clip_similarity", pa.float32()),
    ("width", pa.int32()), ("height", pa.int32()), ("language", pa.string()), ("class_id", pa.int32()), ("class_name", pa.string()),
    ("entities", pa.list_(pa.string())), ("entity_names", pa.list_(pa.string())),
])


def place_of(path: str, forms: Sequence[str]) -> tuple[Store, str]:
    """The folder of a file that is to be written, and its name there. Raises InputError for a name without one of these ends."""
    if not path.endswith(tuple(forms)):
        raise InputError(f"{path}: the name of the file says what it holds: end it with {' or '.join(forms)}")
    folder, _, name = absolute(path).rpartition("/")
    return Store(folder), name


@contextmanager
def tidied(store: Store) -> Iterator[None]:
    """What a file in the making was in goes with the block: the folder is none of ours."""
    try:
        yield
    finally:
        if store.local is not None:
            with suppress(OSError):   # not there, or another file is in the making
                (store.local / PARTIAL).rmdir()


def save_hits(hits: Sequence[Hit], path: str) -> None:
    """Writes hits to a file or URL: `.parquet`, a row each, the nearest first; or `.npy`, their uids as DataComp's tools take them,
    dtype "u8,u8", ascending, and as `subset.npy` of a run has them: those that the inputs brought where every hit brings one, else
    ours. A file that is there is replaced. Raises InputError for another ending, OutputError where it cannot be written."""
    store, name = place_of(path, FORMS)
    with tidied(store):
        if name.endswith(".npy"):
            store.write(name, npy_bytes(halves(uid_keys(hits))))
        else:
            write_table(store, name, pa.Table.from_pylist([dict(hit) for hit in hits], HITS), {})


def uid_keys(hits: Sequence[Hit]) -> Keys:
    """The uids as high and low 64 bits, u64 [n, 2], ascending."""
    brought = [hit.source_uid for hit in hits if hit.source_uid and re.fullmatch(DATACOMP_UID, hit.source_uid)]
    keys = hex_keys(pa.array(brought if len(brought) == len(hits) else [hit.uid for hit in hits], pa.string()))
    return keys[key_order(keys)]
