"""What became of the items of a pack: counts that add up over shards, and a digest of what they were made of."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.input.loose.items import LOST, REASONS, Candidate, Item, LeftOut
from pipeline.input.loose.tables import is_table
from pipeline.quantities import counted
from schemas.answers.packs import LeftOut as AnswerLeftOut
from schemas.answers.packs import Packed

NAMED = 100
"""Of what is left out for one reason, named in the stats of one shard."""
EXAMPLES = 3
STORED = ("count", "successes", "bytes", "without_caption", "not_utf8")
"""Names of the counts of a tally in a shard's stats."""


class Loaded(NamedTuple):
    """A candidate and its bytes."""

    candidate: Candidate
    extension: str
    image: bytes
    caption: bytes | None
    json: bytes | None

    @property
    def size(self) -> int:
        """Bytes of its members."""
        return len(self.image) + len(self.caption or b"") + len(self.json or b"")


@dataclass
class Tally:
    """Counts of one shard, or of all."""

    items: int = 0
    """Candidates and what was left out."""
    samples: int = 0
    bytes: int = 0
    without_caption: int = 0
    not_utf8: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    """The first that were left out, by reason."""

    def add_sample(self, sample: Loaded) -> None:
        """Counts a sample that is packed."""
        self.samples += 1
        self.bytes += sample.size
        self.without_caption += sample.caption is None
        self.not_utf8 += sample.caption is not None and not _is_utf8(sample.caption)

    def add_left_out(self, one: LeftOut) -> None:
        """Counts what is not packed."""
        self.left_out[one.reason] += 1
        names = self.named.setdefault(one.reason, [])
        if len(names) < NAMED:
            names.append(one.named)

    def add(self, other: "Tally") -> None:
        """Adds the counts of another shard, and as many names as an answer shows."""
        for name in ("items", "samples", "bytes", "without_caption", "not_utf8"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.left_out += other.left_out
        for reason, names in other.named.items():
            known = self.named.setdefault(reason, [])
            known += names[: max(EXAMPLES - len(known), 0)]

    def stats(self, digest: str) -> dict[str, Any]:
        """As a shard's `_stats.json` has it: img2dataset's keys, which `run` holds the tar against, and ours."""
        counts = self.items, self.samples, self.bytes, self.without_caption, self.not_utf8
        return {**dict(zip(STORED, counts, strict=True)), "left_out": dict(self.left_out), "named": self.named, "digest": digest}

    @classmethod
    def of_stats(cls, stats: Mapping[str, Any]) -> "Tally":
        """Raises KeyError or TypeError for what `stats` did not write."""
        count, successes, size, without, not_utf8 = (int(stats[name]) for name in STORED)
        named = {reason: list(names) for reason, names in stats["named"].items()}
        return cls(count, successes, size, without, not_utf8, Counter(stats["left_out"]), named)

    def answer(self, output: str, shards: int, written: int) -> Packed:
        """What `pack` says of all shards."""
        left = {reason: AnswerLeftOut(count=count, meaning=REASONS[reason], lost=reason in LOST,
                                      examples=tuple(self.named[reason][:EXAMPLES]))
                for reason, count in sorted(self.left_out.items(), key=lambda pair: (-pair[1], pair[0]))}
        return Packed(
            output=output, shards=shards, written=written, samples=self.samples, bytes=self.bytes,
            without_caption=self.without_caption, not_utf8=self.not_utf8, left_out=left, hint=self._hint(),
        )

    def _hint(self) -> str:
        tables = [name for name in self.named.get("other_file", ()) if is_table(name)]
        if self.without_caption == self.samples and tables:
            return f"no image has a caption of its own, but there is a table, {tables[0]}: pack the table instead of the folder"
        if "outside_root" in self.left_out:
            return f"{self.named['outside_root'][0]} lies outside of the folder: --root FOLDER allows what lies below FOLDER"
        if "url" in self.left_out:
            return "download what is named by URL with img2dataset, see docs/inputs.md"
        if self.not_utf8:
            captions = f"{counted(self.not_utf8, 'caption')} {'is' if self.not_utf8 == 1 else 'are'} not UTF-8, as in the input"
            read = "a run reads them as caption.fallback says (windows-1252)"
            return f"{captions}: {read}; --encoding cp1252 (or what it is) is for a table"
        return ""


class Digest:
    """SHA-256 of what items were made of, so that a pack goes on only where its input is what it was."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, item: Item, versions: str) -> None:
        """Adds an item and the versions of its files."""
        for part in (type(item).__name__, *item, versions):
            content = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
            self._sha.update(b"%d:" % len(content) + content)

    def hexdigest(self) -> str:
        """64 hex digits."""
        return self._sha.hexdigest()


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
