"""Members of an archive -> samples -> record batches with the source's own columns and the encoded image."""

import hashlib
import json
import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.input.members import Member
from schemas.columns import SAMPLES, field
from schemas.reasons import SampleFault

IMAGE_EXTENSIONS = ("jpg", "png", "jpeg", "webp")
"""Extensions of images. Where a sample has several, the first of these counts: the order of open_clip's loader."""
CAPTION_KEYS = ("caption", "text", "TEXT", "txt")
"""Fields of the metadata object, or columns of a parquet file, that may hold the caption; the first one that does."""

MAX_IMAGE = 128 << 20
MAX_DEPTH = 256
"""Levels of a metadata object. Python's own bound depends on who calls, so that two runs could differ."""
STRINGS, BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL), re.compile(rb"[][{}]")
MAX_TEXT = 16 << 20
"""Bytes of a caption or metadata object; as Python objects 16 MiB of JSON can take some 400 MB."""
MAX_ID = 256
"""Characters of a uid that the input brings."""
LIMITS = {**dict.fromkeys(IMAGE_EXTENSIONS, MAX_IMAGE), "txt": MAX_TEXT, "json": MAX_TEXT}

WINDOW_SAMPLES = 64
WINDOW_BYTES = 32 << 20
"""How far apart the members of one sample may be: so many samples stay open, while they hold no more than these bytes."""

BATCH = pa.schema([
    *SAMPLES, field("image", pa.large_binary(), "encoded image; null without one; never written"),
    field("metadata", pa.large_binary(), "the sample's metadata object as the input has it; null without one; never written"),
])


class Sample(NamedTuple):
    """One sample as a shard has it."""

    key: str
    image: bytes | None = None
    image_name: str | None = None
    image_extension: str | None = None
    image_offset: int | None = None
    caption: bytes | None = None
    json_offset: int | None = None
    json_length: int | None = None
    source_uid: str | None = None
    source_width: int | None = None
    source_height: int | None = None
    metadata: bytes | None = None
    fault: SampleFault | None = None


@dataclass(slots=True)
class Parts:
    """The members of one sample."""

    key: str
    image: Member | None = None
    text: Member | None = None
    json: Member | None = None
    repeated: bool = False
    """The shard had this key before."""
    size: int = 0


def group_members(members: Iterable[Member], ignored: Counter[str]) -> Iterator[Parts]:
    """Samples in the order of their first members. Members need not be adjacent, only within the window.

    A second member of one kind starts another sample of that key, and so does a member that comes after its sample left
    the window; both are marked `repeated`.
    """
    waiting: deque[Parts] = deque()
    by_key: dict[str, Parts] = {}
    keys: set[str] = set()
    held = 0
    for member in members:
        parts = by_key.get(member.key)
        if parts is None or not _add_member(parts, member, ignored):
            parts = Parts(member.key, repeated=member.key in keys)
            _add_member(parts, member, ignored)
            keys.add(member.key)
            by_key[member.key] = parts
            waiting.append(parts)
        length = len(member.content or b"")
        parts.size += length
        held += length
        while len(waiting) > WINDOW_SAMPLES or (held > WINDOW_BYTES and len(waiting) > 1):
            oldest = waiting.popleft()
            held -= oldest.size
            if by_key.get(oldest.key) is oldest:
                del by_key[oldest.key]
            yield oldest
    yield from waiting


def _add_member(parts: Parts, member: Member, ignored: Counter[str]) -> bool:
    """Adds the member to the sample, unless the sample has one like it."""
    if member.extension == "txt":
        if parts.text is not None:
            return False
        parts.text = member
    elif member.extension == "json":
        if parts.json is not None:
            return False
        parts.json = member
    elif parts.image is None:
        parts.image = member
    elif parts.image.extension == member.extension:
        return False
    else:
        ignored["further image"] += 1
        parts.image = min(parts.image, member, key=lambda image: IMAGE_EXTENSIONS.index(image.extension))
    return True


def sample_of(parts: Parts, ordinal: int | None, caption_keys: tuple[str, ...]) -> Sample:
    """The sample of these members, with the first fault it has. `ordinal`, its number in the shard, stands in for the offsets where
    the archive cannot be read in place; else None."""
    image, text, metadata = parts.image, parts.text, parts.json
    fields = metadata_object(metadata.content) if metadata is not None and metadata.content is not None else {}
    caption = text.content if text is not None else _caption(fields or {}, caption_keys)
    members = [member for member in (image, text, metadata) if member is not None]
    content = image.content if image is not None else None
    fault = None
    if parts.repeated:
        fault = SampleFault.DUPLICATE_KEY
    elif any(member.content is None for member in members):
        fault = SampleFault.UNREADABLE_MEMBER
    elif image is None:
        fault = SampleFault.MISSING_IMAGE
    elif caption is None:
        fault = SampleFault.MISSING_CAPTION
    elif fields is None:
        fault = SampleFault.BAD_JSON
    has_json = metadata is not None and metadata.content is not None
    return Sample(
        parts.key,
        content,
        image.name if image is not None else None,
        image.extension if image is not None else None,
        ordinal if ordinal is not None else image.offset if image is not None and content is not None else None,
        caption,
        metadata.offset if metadata is not None and has_json and ordinal is None else None,
        metadata.size if metadata is not None and has_json else None,
        text_or_none((fields or {}).get("uid")),
        pixels_or_none((fields or {}).get("original_width")),
        pixels_or_none((fields or {}).get("original_height")),
        metadata.content if metadata is not None else None,
        fault,
    )


def nesting_depth(content: bytes) -> int:
    """How deep JSON nests; an upper bound where it has few brackets at all."""
    deepest = content.count(b"{") + content.count(b"[")
    if deepest <= MAX_DEPTH:
        return deepest
    level = deepest = 0
    for bracket in BRACKETS.findall(STRINGS.sub(b"", content)):
        level += 1 if bracket in b"{[" else -1
        deepest = max(deepest, level)
    return deepest


def metadata_object(content: bytes) -> dict[str, Any] | None:
    """The metadata object; None if the bytes are not one, or nest deeper than MAX_DEPTH."""
    if nesting_depth(content) > MAX_DEPTH:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _caption(fields: dict[str, Any], keys: tuple[str, ...]) -> bytes | None:
    text = next((fields[key] for key in keys if isinstance(fields.get(key), str)), None)
    return None if text is None else text.encode("utf-8", "surrogatepass")


def text_or_none(value: Any) -> str | None:
    """The value where it is a string of at most MAX_ID characters, as Arrow can hold it (JSON may escape half of a surrogate pair).
    """
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and len(value) <= MAX_ID else None


def pixels_or_none(value: Any) -> int | None:
    """The value where it is a positive whole number of 31 bits, as a side of a picture is."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    return value if type(value) is int and 0 < value < 2**31 else None


def uid_of(image: bytes | None, caption: bytes | None) -> str:
    """Content identity, as schemas.columns.UID has it; a missing part counts as empty."""
    image = image or b""
    sha = hashlib.sha256(len(image).to_bytes(8, "big"))
    sha.update(image)
    sha.update(caption or b"")
    return sha.hexdigest()[:32]


def batches(samples: Iterable[Sample], location: str, rows: int, size: int) -> Iterator[pa.RecordBatch]:
    """Batches of `rows` samples in the schema BATCH, fewer where they hold more than `size` bytes of images, captions and
    metadata objects."""
    waiting: list[Sample] = []
    held = 0
    for sample in samples:
        waiting.append(sample)
        held += len(sample.image or b"") + len(sample.caption or b"") + len(sample.metadata or b"")
        if len(waiting) >= rows or held >= size:
            yield _batch(waiting, location)
            waiting, held = [], 0
    if waiting:
        yield _batch(waiting, location)


def _batch(samples: list[Sample], location: str) -> pa.RecordBatch:
    columns: dict[str, list[Any]] = dict(zip(Sample._fields, map(list, zip(*samples, strict=True)), strict=True))
    captions = [decoded_caption(caption) for caption in columns["caption"]]
    columns["uid"] = [uid_of(sample.image, sample.caption) for sample in samples]
    columns["caption"] = [text for text, _ in captions]
    columns["caption_raw"] = [raw for _, raw in captions]
    columns["location"] = [location] * len(samples)
    columns["image_length"] = [None if image is None else len(image) for image in columns["image"]]
    columns["samples_error"] = columns["fault"]
    return pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in BATCH], schema=BATCH)


def decoded_caption(raw: bytes | None) -> tuple[str | None, bytes | None]:
    """The caption as text, and the bytes as well where they are not valid UTF-8."""
    if raw is None:
        return None, None
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), raw
