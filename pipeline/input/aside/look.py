"""A look at the first samples of a shard: which fields there are that a caption could be in."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.input.aside.ignored import IgnoredMembers
from pipeline.input.discovery import Shard
from pipeline.input.metadata import MAX_DEPTH, nesting_depth
from pipeline.input.parquet import DAMAGE, layout_of
from pipeline.input.reader import codec_of, tar_members
from pipeline.input.samples import group_members
from pipeline.store.source import UNSUPPORTED, SourceFile
from pipeline.store.store import open_url

LOOKED_AT = 16
"""Samples."""
NAMED_LIKE_CAPTIONS = re.compile(r"caption|text|txt|alt|title|desc|prompt|label|sentence|name", re.IGNORECASE)
NO_CAPTIONS = re.compile(
    r"url|uri|key|uid|\bid\b|_id|sha|md5|hash|path|file|status|error|exif|licen|lang|author|date|mime|format", re.IGNORECASE)


@dataclass(frozen=True)
class Fields:
    """What a sample of a shard has beside its image."""

    names: tuple[str, ...]
    """Of its columns, or of the fields of its metadata object; data, to be shown cleaned."""
    texts: tuple[str, ...]
    """Those of text, the likeliest caption first."""


def fields_of(shard: Shard) -> Fields:
    """The fields of the first samples. Empty for what cannot be read."""
    try:
        with open_url(shard.url, scattered=shard.kind == "parquet") as file:
            return _columns(file) if shard.kind == "parquet" else _members(file)
    except (*DAMAGE, InputError):
        return Fields((), ())


def _columns(file: SourceFile) -> Fields:
    schema = pq.read_schema(file)
    layouts = {name: layout_of(schema, [name]) for name in schema.names}
    texts = [name for name, layout in layouts.items() if layout is not None and layout.caption == name]
    return Fields(tuple(schema.names), _likeliest(texts))


def _members(file: SourceFile) -> Fields:
    codec = codec_of(file)
    if codec in UNSUPPORTED.values():
        return Fields((), ())
    names, texts = Counter[str](), Counter[str]()
    for parts in islice(group_members(tar_members(file, codec), IgnoredMembers()), LOOKED_AT):
        content = parts.json.content if parts.json is not None else None
        fields = _object(content or b"{}")
        names.update(fields.keys())
        texts.update(name for name, value in fields.items() if isinstance(value, str))
    return Fields(tuple(names), _likeliest([name for name, _ in texts.most_common()]))


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content) if nesting_depth(content) <= MAX_DEPTH else None
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _likeliest(names: list[str]) -> tuple[str, ...]:
    """Those named like captions first, those named like something else last; else in their order."""
    return tuple(sorted(names, key=lambda name: (NO_CAPTIONS.search(name) is not None, NAMED_LIKE_CAPTIONS.search(name) is None)))
