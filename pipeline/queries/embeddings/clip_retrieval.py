"""Embeddings as clip-retrieval's inference lays them out, which autofaiss, `clip-retrieval index` and clip-back read:

    img_emb/img_emb_P.npy         float16 [n, d], unit vectors
    text_emb/text_emb_P.npy       the same of the captions
    metadata/metadata_P.parquet   n rows: image_path (the sample's key, as of its WebDataset input), caption, what else is known

Row i of the three files of a partition P is the same sample. P has leading zeros (int(log10(partitions)) + 1 digits), for their
readers put files together in the order of their names (clip_inference/writer.py of clip-retrieval 2.45).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.plan import Plan
from pipeline.queries.rows.columns import RootColumns
from pipeline.root.existing import open_root, readable
from pipeline.select.stored import require_ledger, stored_ledger
from pipeline.select.verdicts import KEPT
from pipeline.store.store import Store, absolute
from schemas.answers.tables import Embedded

Of = Literal["kept", "all"]
PARTITION = 1_000_000
"""Samples of a partition at most, unless one shard has more: clip-retrieval's write_batch_size."""
GROUP = 1 << 16
"""Rows of a row group of the metadata, about."""
IDENTITY = "shardmill.json"
"""Says what is in the folder: another run's files are not taken for this one's."""
CALLED = {"key": "image_path", "caption": "caption"}
BESIDE = (
    "uid", "source_uid", "shard_id", "row", "verdict", "clip_similarity", "width", "height", "language", "class_id", "class_name",
)
"""Further columns of the metadata, as far as the root has them, and those of the samples' own metadata (json.KEY, as KEY)."""
VALID = ("image_embedding_valid", "text_embedding_valid")
MATRICES = {"img_emb": "image_embedding", "text_emb": "text_embedding"}


@dataclass(frozen=True)
class Shards:
    """Neighbouring shards of a root as one partition."""

    number: str
    shard_ids: tuple[str, ...]


def write_clip_retrieval(url: str, output: str, of: Of = "kept", partition: int = PARTITION) -> Embedded:
    """Writes the embeddings of a root into a folder or URL: of the kept samples, or of all that have both vectors. A partition
    whose metadata is there is done, so the same call again goes on after a stop. In memory is a shard at a time.

    Raises RootError before there are verdicts, InputError for a folder that holds something else, and for one in the root."""
    plan = readable(open_root(url))
    require_ledger(plan.root, plan.verdicts)
    columns, target = RootColumns(plan), Store(absolute(output))
    columns.check([*MATRICES.values()])
    if f"{target.url}/".startswith(f"{plan.root.url.rstrip('/')}/"):
        raise InputError(f"{output} is in the root, which holds what shardmill itself makes: give another folder")
    partitions = divided(samples_by_shard(plan, of), partition)
    _claim(target, {"root": plan.root.url, "verdicts": plan.verdicts, "embeddings": plan.columns.folders["clip"], "of": of,
                    "partition": partition, "partitions": len(partitions)})
    rows = [_write(columns, target, part, of) for part in partitions]
    return Embedded(root=url, output=target.url, layout="clip-retrieval", of=of, samples=sum(rows), partitions=sum(map(bool, rows)),
                    dimension=columns.schema.field("image_embedding").type.list_size)


def samples_by_shard(plan: Plan, of: Of) -> dict[str, int]:
    """How many samples of each shard are written, at most, by the account of the run; in the order of the input."""
    by_shard = stored_ledger(plan.root, plan.verdicts).shards
    verdicts = {shard.shard_id: by_shard.get(shard.shard_id, {}) for shard in plan.shards}
    return {shard_id: counts.get(KEPT, 0) if of == "kept" else sum(counts.values()) for shard_id, counts in verdicts.items()}


def divided(samples: Mapping[str, int], partition: int) -> list[Shards]:
    """The partitions, in the order of the shards; those without a sample are in none."""
    groups: list[list[str]] = []
    size = 0
    for shard_id, count in samples.items():
        if count and (not groups or size + count > partition):
            groups.append([])
            size = 0
        if count:
            groups[-1].append(shard_id)
            size += count
    digits = int(log10(len(groups))) + 1 if groups else 1
    return [Shards(str(number).zfill(digits), tuple(group)) for number, group in enumerate(groups)]


def _claim(target: Store, identity: dict[str, object]) -> None:
    """Raises InputError for a folder that is another's."""
    try:
        found = target.read_json(IDENTITY)
    except (FileNotFoundError, ValueError):
        found = None
    if found is None:
        if any(target.names(folder) for folder in (*MATRICES, "metadata")):
            raise InputError(f"{target.url} holds embeddings that are not from here: give a new folder")
        target.write_json(IDENTITY, identity)
    elif found != identity:
        differs = ", ".join(sorted(key for key in identity if found.get(key) != identity[key]))
        raise InputError(f"{target.url} holds embeddings of another run or choice ({differs}): give a new folder")


def _write(columns: RootColumns, target: Store, part: Shards, of: Of) -> int:
    """Writes what is missing of a partition; the metadata last, which says that all is there. Returns its rows."""
    rows = {shard_id: _rows(columns, shard_id, of) for shard_id in part.shard_ids}
    total = sum(map(len, rows.values()))
    metadata = f"metadata/metadata_{part.number}.parquet"
    if total and not target.exists(metadata):
        for folder, name in MATRICES.items():
            _write_matrix(columns, target, f"{folder}/{folder}_{part.number}.npy", name, rows)
        _write_metadata(columns, target, metadata, rows)
    return total


def _rows(columns: RootColumns, shard_id: str, of: Of) -> NDArray[np.int64]:
    """i64 [n], ascending: the rows of a shard that are written."""
    read = columns.read(shard_id, ["verdict", *VALID] if of == "kept" else VALID)
    wanted = np.logical_and.reduce([np.asarray(read[name]) for name in VALID])
    if of == "kept":
        wanted &= np.asarray(pa.compute.equal(read["verdict"], KEPT))
    return np.flatnonzero(wanted)


def _write_matrix(columns: RootColumns, target: Store, path: str, name: str, rows: dict[str, NDArray[np.int64]]) -> None:
    shape = (sum(map(len, rows.values())), columns.schema.field(name).type.list_size)
    with target.create(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for shard_id, chosen in rows.items():
            file.write(np.ascontiguousarray(columns.vectors(shard_id, name)[chosen]).data)


def _write_metadata(columns: RootColumns, target: Store, path: str, rows: dict[str, NDArray[np.int64]]) -> None:
    called = metadata_columns(columns.schema.names)
    schema = pa.schema([pa.field(new, columns.schema.field(name).type) for name, new in called.items()])
    with target.create(path) as file, pq.ParquetWriter(file, schema) as writer:
        for group in _groups(_tables(columns, called, schema, rows)):
            writer.write_table(group)


def metadata_columns(names: Sequence[str]) -> dict[str, str]:
    """What the columns of a root are called in the metadata: those that clip-retrieval writes first."""
    called = {**CALLED, **{name: name for name in BESIDE if name in names}}
    for name in names:
        key = name.removeprefix("json.")
        if key != name and key not in called.values():
            called[name] = key
    return called


def _tables(
    columns: RootColumns, called: dict[str, str], schema: pa.Schema, rows: dict[str, NDArray[np.int64]]
) -> Iterator[pa.Table]:
    for shard_id, chosen in rows.items():
        read = columns.read(shard_id, list(called))
        yield pa.table([read[name] for name in called], schema=schema).take(pa.array(chosen))


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows of many small tables as fewer larger ones."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(part.num_rows for part in held) >= GROUP:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()
