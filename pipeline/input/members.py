"""What an archive's members are called and what cannot be read of it. Names are data: they are never used as paths."""

import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from pipeline.store.source import Blocks
from schemas.reasons import GapKind

LENGTH = re.compile(rb"([0-9]{1,8}) ")
MAX_GAPS = 1_000
"""Gaps that are named one by one; those beyond are counted in one more."""


@dataclass(frozen=True)
class Gap:
    """A part of a shard that nobody can read. `samples`: how many are missing, where that is known."""

    kind: GapKind
    offset: int
    """Byte offset; inside the decompressed archive where the shard is compressed, the row for parquet."""
    detail: str
    samples: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can say them."""
        return asdict(self)


class Member(NamedTuple):
    """A file of the archive. `content` is None where it cannot be read or is longer than its extension may be."""

    key: str
    extension: str
    name: str
    offset: int
    size: int
    content: bytes | None


class RewoundBlocks(Blocks):
    """Blocks that can be handed out again."""

    def give_back(self, content: bytes) -> None:
        """`content`: the last bytes taken. They come next."""
        if len(content) <= self._at:
            self._at -= len(content)
        else:
            self._chunk, self._at = content + self._chunk[self._at :], 0
        self.offset -= len(content)


def add_gap(gaps: list[Gap], gap: Gap) -> None:
    """Adds a gap; from MAX_GAPS on the last entry only counts (an archive can be made of nothing but damage)."""
    if len(gaps) < MAX_GAPS:
        gaps.append(gap)
        return
    first = gaps[MAX_GAPS] if len(gaps) > MAX_GAPS else Gap(gap.kind, gap.offset, "0 further places")
    gaps[MAX_GAPS:] = [Gap(first.kind, first.offset, f"{int(first.detail.split()[0]) + 1} further places")]


def split_name(name: str) -> tuple[str, str]:
    """(key, lower-case extension) as webdataset has it: the key ends at the first dot of the base name, folders stay.

    An empty extension means that the member belongs to no sample.
    """
    slash = name.rfind("/") + 1
    dot = name.find(".", slash)
    if dot <= slash or (name.startswith("__") and name.split("/", 1)[0].endswith("__")):
        return name, ""
    return name[:dot], name[dot + 1 :].lower()


def decode_name(name: bytes) -> str:
    """A name as text; bytes that are not UTF-8 stay told apart."""
    return name.decode("utf-8", "backslashreplace")


def pax_records(content: bytes) -> dict[str, str] | None:
    """The `length key=value` records of an extended header; None if they are malformed."""
    records: dict[str, str] = {}
    at = 0
    while at < len(content):
        length = LENGTH.match(content, at)
        end = at + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(content):
            return None
        key, _, value = content[length.end() : end - 1].partition(b"=")
        records[decode_name(key)] = decode_name(value)
        at = end
    return records


def pax_size(text: str, otherwise: int) -> int:
    """The size in bytes that a PAX record states, or `otherwise` where it states none."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else otherwise
