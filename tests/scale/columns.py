"""The columns of a synthetic run as the annotate pass leaves them, through its own `commit`; texts through its own stages."""

import hashlib
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.columns import Columns
from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.input.discovery import Shard
from pipeline.input.samples import uid_of
from pipeline.passes.annotate import commit
from pipeline.registry import SOURCE
from pipeline.stage import Stage, joined
from pipeline.stages.caption import CaptionStage
from pipeline.stages.language import LanguageStage
from pipeline.stages.mentions import MentionsStage
from pipeline.store.blocks.writing import Said
from pipeline.store.store import stat
from schemas import columns as schemas
from schemas.reasons import ImageFault
from tests.scale.content import Content
from tests.scale.sizes import DIMENSION, WORKERS, Size

LENGTH = 64
"""Bytes of a picture: a window of one file, which begins where no other picture does."""
PATTERNS = ("a photo of a {}", "{} and {}", "{}", "the {} in the {} - stock photo", "vintage {} with {}", "foto de {} para {}")


@dataclass(frozen=True)
class Part:
    """One shard of the run."""

    shard: Shard
    first_row: int
    rows: int


def parts(size: Size, pictures: Path) -> list[Part]:
    """All of them. Their pictures are in one file, by ranges, as those of a tar are."""
    counts = size.counts.tolist()
    starts = np.cumsum([0, *counts[:-1]]).tolist()
    info = stat(str(pictures))
    return [Part(Shard(f"{i:06d}-{hashed_name(i)}", info.url, f"{i:06d}.tar", info.size, info.version, "tar"), start, count)
            for i, (start, count) in enumerate(zip(starts, counts, strict=True))]


def hashed_name(number: int) -> str:
    """As `discover` names shards."""
    return hashlib.sha256(f"{number:06d}.tar".encode()).hexdigest()[:8]


def write_pictures(path: Path, rows: int) -> None:
    """Random bytes for so many windows."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows + LENGTH, 1 << 24):
            file.write(rng.bytes(min(1 << 24, rows + LENGTH - start)))


def build(columns: Columns, parts: list[Part], texts: int) -> None:
    """Writes the columns of all shards, by processes of their own."""
    if len(parts) * parts[0].rows < 1 << 14 and len(parts) < 1000:   # not worth a start of processes
        with unsynced():
            for part in parts:
                write_shard(columns, part, texts)
        return
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), initializer=_never_synced) as pool:
        for start in range(0, len(parts), 10_000):
            chosen = parts[start : start + 10_000]
            list(pool.map(write_shard, [columns] * len(chosen), chosen, [texts] * len(chosen), chunksize=8))


@contextmanager
def unsynced() -> Iterator[None]:
    """No file is brought to the disk before the next: what is made here has no worth after a power cut."""
    sync = os.fsync
    _never_synced()
    try:
        yield
    finally:
        os.fsync = sync


def _never_synced() -> None:
    os.fsync = lambda fd: None


def write_shard(columns: Columns, part: Part, texts: int) -> None:
    """The files of one shard."""
    tables = shard_columns(part, texts)
    facts = {"shard_id": part.shard.shard_id, "version": part.shard.version, "gaps": [], "members": 2 * part.rows,
             "bytes_read": part.rows * LENGTH, "ignored": {}}
    said = Said(part.shard.shard_id, part.rows, facts)
    commit(columns, [said], {name: pa.Table.from_batches([batch]) for name, batch in tables.items()})


def shard_columns(part: Part, texts: int) -> dict[str, pa.RecordBatch]:
    """The columns of the source and of every stage, in their order."""
    content = Content.of(np.arange(part.first_row, part.first_row + part.rows))
    key = pa.array(np.char.mod("%09d", content.row))
    caption, of_text = captions(content, texts)
    uid, sha256 = identities(part, content, caption)
    width, height = content.size
    fault = masked(np.full(part.rows, ImageFault.TRUNCATED.value), ~content.failed)
    long, short = np.maximum(width, height), np.minimum(width, height)
    ratio = (long / short).astype(np.float32)
    similarity, image, text = embedded(content)
    absent = content.failed
    found: dict[str, dict[str, Any]] = {
        SOURCE: {
            "key": key, "caption": caption, "caption_encoding": ["utf-8"] * part.rows,
            "image_name": pc.binary_join_element_wise(key, "jpg", "."), "image_extension": ["jpg"] * part.rows,
            "location": ["tar_range"] * part.rows, "image_offset": content.picture, "image_length": np.full(part.rows, LENGTH),
        },
        "image": {
            "image_format": masked(np.array(["jpeg"] * part.rows), absent), "image_bytes": np.full(part.rows, LENGTH),
            **{name: masked(values, absent) for name, values in (
                ("width", width), ("height", height), ("shortest_side", short), ("longest_side", long),
                ("pixels", width.astype(np.int64) * height), ("aspect_ratio", ratio), ("original_shortest_side", short),
                ("original_longest_side", long), ("original_aspect_ratio", ratio))},
            "image_error": fault,
        },
        **of_text,
        "hashes": {"sha256": masked(np.array(sha256), absent), "phash": masked(content.phash, absent),
                   "thumbnail": thumbnails(content)},
        "clip": {"clip_similarity": masked(similarity, absent), "image_embedding": vectors(image, absent),
                 "text_embedding": vectors(text, np.zeros(part.rows, bool))},
    }
    order = (SOURCE, "image", "caption", "language", "hashes", "clip", "mentions")
    return {name: batch(SCHEMAS[name], uid, found[name]) for name in order}


SCHEMAS = {
    SOURCE: schemas.SAMPLES, "image": schemas.IMAGE, "caption": schemas.CAPTION, "language": schemas.LANGUAGE,
    "hashes": schemas.HASHES, "clip": schemas.clip_schema(DIMENSION), "mentions": schemas.MENTIONS,
}


def batch(schema: pa.Schema, uid: pa.Array, found: dict[str, Any]) -> pa.RecordBatch:
    """The columns in the schema's order and types; null where nothing is found."""
    columns = {"uid": uid, **found}
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        array = pa.nulls(len(uid), field.type) if values is None else values
        array = array if isinstance(array, pa.Array) else pa.array(array)
        arrays.append(array if array.type == field.type else array.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def masked(values: NDArray[Any], absent: NDArray[np.bool_]) -> pa.Array:
    """The values, null where absent."""
    return pa.array(values, mask=absent)


@cache
def _mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def identities(part: Part, content: Content, caption: pa.Array) -> tuple[pa.Array, list[str]]:
    """The uids, string [rows], and the hashes of the windows that are the pictures."""
    mapped = _mapped(part.shard.url)
    pictures = [mapped[start : start + LENGTH] for start in content.picture.tolist()]
    return (pa.array([uid_of(picture, text.encode()) for picture, text in zip(pictures, caption.to_pylist(), strict=True)]),
            [hashlib.sha256(picture).hexdigest() for picture in pictures])


def thumbnails(content: Content) -> pa.Array:
    """fixed_size_binary(768) [rows]; null where the picture could not be decoded."""
    values = pa.py_buffer(np.ascontiguousarray(content.thumbnail).tobytes())
    validity = pa.py_buffer(np.packbits(~content.failed, bitorder="little").tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(768), len(content.row), [validity, values])


def embedded(content: Content) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Similarity [rows] and the vectors of pictures and captions, float32 [rows, d]."""
    image, text = content.embeddings(DIMENSION)
    return np.sum(image * text, axis=1), image, text


def vectors(rows: NDArray[np.float32], absent: NDArray[np.bool_]) -> pa.Array:
    """Lists of float16, null where absent."""
    flat = pa.array(rows.astype(np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, DIMENSION, mask=pa.array(absent))


def captions(content: Content, texts: int) -> tuple[pa.Array, dict[str, dict[str, Any]]]:
    """The raw captions, and the columns of the stages that read texts, by stage."""
    known = known_texts(texts)
    drawn, numbered = content.text(texts)
    positions = pa.array(drawn)
    taken = {stage: {name: column.take(positions) for name, column in columns.items()} for stage, columns in known.items()}
    suffix = pa.array(np.where(numbered, np.char.add(" ", content.caption.astype(str)), ""))
    caption = pc.binary_join_element_wise(taken["caption"]["caption_text"], suffix, "")
    more = numbered.astype(np.int32)
    taken["caption"] |= {
        "caption_text": caption, "caption_words": pc.add(taken["caption"]["caption_words"], more),
        "caption_characters": pc.utf8_length(caption),
    }
    return caption, taken


@cache
def known_texts(count: int) -> dict[str, dict[str, pa.Array]]:
    """The columns of the text stages for so many texts, by stage; the texts themselves are `caption_text`."""
    base = KnowledgeBase.load(MentionsStage().knowledge)
    nouns = sorted({names[0] for names, counts in zip(base.lemmas, base.counts, strict=True) if counts and counts[0] > 0})
    rng = np.random.default_rng(0)
    chosen = np.floor(len(nouns) * rng.random((count, 2)) ** 2).astype(int)
    texts = [PATTERNS[i % len(PATTERNS)].format(nouns[a], nouns[b]) for i, (a, b) in enumerate(chosen.tolist())]
    read = pa.RecordBatch.from_pydict({"uid": pa.array([f"{i:032x}" for i in range(count)]), "caption": pa.array(texts)})
    found = {}
    for stage in (CaptionStage(), LanguageStage(), MentionsStage()):
        added = transformed(stage, read)
        found[stage.contract.name] = {name: added.column(name) for name in added.schema.names[1:]}
        read = joined(read, added)
    return found


def transformed(stage: Stage, read: pa.RecordBatch) -> pa.RecordBatch:
    """What a stage says of a batch."""
    with stage.open() as transform:
        return transform(read)
