"""Members of an archive -> samples -> record batches with the source's own columns and the encoded image."""

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.input.aside.ignored import IgnoredMembers
from pipeline.input.members import Member
from pipeline.input.metadata import parsed
from pipeline.input.text import UTF8, WINDOWS_1252, decoded, whole_characters
from schemas.columns import SAMPLES, field
from schemas.reasons import IgnoredKind, SampleFault

TRAINERS_EXTENSIONS = ("jpg", "png", "jpeg", "webp")
"""Extensions of images that trainers look for."""
IMAGE_EXTENSIONS = (*TRAINERS_EXTENSIONS, "jfif", "jpe", "gif", "bmp", "tiff", "tif", "avif")
"""Extensions of images. Where a sample has several, the first of these counts: the order of open_clip's loader, then the others,
which a recipe may allow."""
TXT = "txt"
CAPTION_KEYS = (TXT, "caption", "text", "TEXT")
"""Where the caption may be, as a recipe's `caption.keys` has it."""

MAX_IMAGE = 128 << 20
MAX_TEXT = 16 << 20
"""Bytes of a caption or metadata object; as Python objects 16 MiB of JSON can take some 400 MB."""
MAX_ID = 256
"""Characters of a uid that the input brings."""
LIMITS = {**dict.fromkeys(IMAGE_EXTENSIONS, MAX_IMAGE), TXT: MAX_TEXT, "json": MAX_TEXT}

WINDOW_SAMPLES = 64
WINDOW_BYTES = 32 << 20
"""How far apart the members of one sample may be: so many samples stay open, while they hold no more than these bytes."""

BATCH = pa.schema([
    *SAMPLES, field("image", pa.large_binary(), "encoded image; null without one; never written"),
    field("metadata", pa.large_binary(), "the sample's metadata object as the input has it; null without one; never written"),
])


@dataclass(frozen=True)
class Reading:
    """What a recipe says of how samples are read: it is part of what their columns follow from."""

    caption_keys: tuple[str, ...] = CAPTION_KEYS
    """The first that a sample has is its caption: `txt` is the text member, another name a field of the metadata or a column."""
    fallback: str = WINDOWS_1252
    """The encoding of captions that are not UTF-8 (`text.decoded`)."""
    keeps_bad_json: bool = True
    """A pair whose metadata is no JSON object is read without it; else it fails."""


READING = Reading()


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
    json_problem: str | None = None
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
    before: int = 0
    """Kinds of members that it had of this key (`kind_of`)."""
    size: int = 0

    @property
    def apart(self) -> bool:
        """Whether this is the rest of a sample that left the window without it."""
        members = (self.image, self.text, self.json)
        return self.repeated and not any(self.before & kind_of(member) for member in members if member is not None)


def kind_of(member: Member) -> int:
    """1 for the caption, 2 for the metadata, 4 for an image."""
    return {TXT: 1, "json": 2}.get(member.extension, 4)


def group_members(members: Iterable[Member], ignored: IgnoredMembers) -> Iterator[Parts]:
    """Samples in the order of their first members. Members need not be adjacent, only within the window.

    A second member of one kind starts another sample of that key, and so does a member that comes after its sample left
    the window; both are marked `repeated`, the latter as `apart` where it lacked them.
    """
    waiting: deque[Parts] = deque()
    by_key: dict[str, Parts] = {}
    keys: dict[str, int] = {}
    held = 0
    for member in members:
        parts = by_key.get(member.key)
        if parts is None or not _add_member(parts, member, ignored):
            parts = Parts(member.key, repeated=member.key in keys, before=keys.get(member.key, 0))
            _add_member(parts, member, ignored)
            by_key[member.key] = parts
            waiting.append(parts)
        keys[member.key] = keys.get(member.key, 0) | kind_of(member)
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


def _add_member(parts: Parts, member: Member, ignored: IgnoredMembers) -> bool:
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
    elif parts.image.name == member.name:
        return False
    elif parts.image.extension == member.extension:   # x.jpg and x.JPG
        ignored.note(IgnoredKind.FURTHER_IMAGE, member.name)
    else:
        first, other = sorted([parts.image, member], key=lambda image: IMAGE_EXTENSIONS.index(image.extension))
        ignored.note(IgnoredKind.FURTHER_IMAGE, other.name)
        parts.image = first
    return True


def sample_of(parts: Parts, ordinal: int | None, reading: Reading) -> Sample:
    """The sample of these members, with the first fault it has. `ordinal`, its number in the shard, stands in for the offsets where
    the archive cannot be read in place; else None."""
    image, metadata = parts.image, parts.json
    value, problem = parsed(metadata.content) if metadata is not None and metadata.content is not None else (None, None)
    fields: dict[str, Any] = value if problem is None and value is not None else {}
    caption, text = _caption(parts.text, fields, reading.caption_keys)
    members = [member for member in (image, text, metadata) if member is not None]
    content = image.content if image is not None else None
    fault = None
    if parts.repeated:
        fault = SampleFault.NOT_ADJACENT if parts.apart else SampleFault.DUPLICATE_KEY
    elif any(member.content is None for member in members):
        fault = SampleFault.UNREADABLE_MEMBER
    elif image is None:
        fault = SampleFault.MISSING_IMAGE
    elif problem is not None and (caption is None or not reading.keeps_bad_json):
        fault = SampleFault.BAD_JSON
    elif caption is None:
        fault = SampleFault.MISSING_CAPTION
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
        text_or_none(fields.get("uid")),
        pixels_or_none(fields.get("original_width")),
        pixels_or_none(fields.get("original_height")),
        problem,
        metadata.content if metadata is not None else None,
        fault,
    )


def _caption(text: Member | None, fields: dict[str, Any], keys: tuple[str, ...]) -> tuple[bytes | None, Member | None]:
    """The caption by the first of the keys that the sample has, and the text member where it is that. Halves of surrogate pairs,
    which JSON may escape, stay in the bytes."""
    for key in keys:
        if key == TXT and text is not None:
            return text.content, text
        if isinstance(fields.get(key), str):
            return fields[key].encode("utf-8", "surrogatepass"), None
    return None, None


def text_or_none(value: Any) -> str | None:
    """The value where it is a string of at most MAX_ID characters, as Arrow can hold it (JSON may escape half of a surrogate pair).
    """
    return whole_characters(value) if isinstance(value, str) and len(value) <= MAX_ID else None


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


def batches(
    samples: Iterable[Sample], location: str, rows: int, size: int, fallback: str = WINDOWS_1252
) -> Iterator[pa.RecordBatch]:
    """Batches of `rows` samples in the schema BATCH, fewer where they hold more than `size` bytes of images, captions and
    metadata objects. `fallback`: the encoding of captions that are not UTF-8."""
    waiting: list[Sample] = []
    held = 0
    for sample in samples:
        waiting.append(sample)
        held += len(sample.image or b"") + len(sample.caption or b"") + len(sample.metadata or b"")
        if len(waiting) >= rows or held >= size:
            yield _batch(waiting, location, fallback)
            waiting, held = [], 0
    if waiting:
        yield _batch(waiting, location, fallback)


def _batch(samples: list[Sample], location: str, fallback: str) -> pa.RecordBatch:
    columns: dict[str, list[Any]] = dict(zip(Sample._fields, map(list, zip(*samples, strict=True)), strict=True))
    raw_captions = columns["caption"]
    decoded_captions = [decoded_caption(sample, fallback) for sample in samples]
    texts, encodings, faults = map(list, zip(*decoded_captions, strict=True))
    columns["uid"] = [uid_of(sample.image, sample.caption) for sample in samples]
    columns["caption"], columns["caption_encoding"], columns["samples_error"] = texts, encodings, faults
    columns["caption_raw"] = [None if how == UTF8 else raw for raw, how in zip(raw_captions, encodings, strict=True)]
    columns["location"] = [location] * len(samples)
    columns["image_length"] = [None if image is None else len(image) for image in columns["image"]]
    return pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in BATCH], schema=BATCH)


UNKNOWN = "unknown"


def decoded_caption(sample: Sample, fallback: str) -> tuple[str | None, str | None, SampleFault | None]:
    """The caption as text, what its bytes were taken for, and the fault of the sample."""
    if sample.caption is None:
        return None, None, sample.fault
    found = decoded(sample.caption, fallback)
    if found is None:
        return sample.caption.decode(errors="replace"), UNKNOWN, sample.fault or SampleFault.CAPTION_UNDECODABLE
    return found.text, found.encoding, sample.fault
