"""What must hold of a mutant's outcome. Rules, and where they make an exception:

1. Rows of every stage are the reader's rows; every uid is that of the bytes; rows without a fault can be fetched again.
2. A sample all of whose members are in the mutated tar byte for byte is there with its uid, or a row of its key has a fault
   (another member took its name: grouping cannot tell whose it is), or a gap is named between the last image that was read
   before it and its own end. Not asked of samples whose members were renamed or stand behind a foreign extended header.
3. A sample that is gone altogether leaves a gap or an ignored member, unless it got another name or the archive is a sound one
   without it, which no tar can show (a side file's count does).
4. Where only contents of members changed, every key is there.
5. parquet with its footer: rows and named missing rows make the whole, and row groups that are byte for byte there are read.
6. A gzip stream without a gap holds every sample (zstd as Arrow writes it has no checksum).
"""

import io
import tarfile
from collections import Counter
from typing import Any

from pipeline.input.samples import uid_of
from pipeline.input.tar import END_MARK, RECORD, parse_header
from tests.fuzz.mutations import Mutant
from tests.fuzz.originals import BLOCK, Sample

EXTENDED = (b"L", b"K", b"x", b"g", b"X")


def faults(made: Mutant, rows: list[dict[str, Any]], gaps: list[dict[str, Any]], ignored: dict[str, int]) -> list[str]:
    """What is wrong, in words; empty when all is accounted for."""
    if made.file.endswith("parquet"):
        return _parquet(made, rows, gaps)
    if made.archive is None:
        missing = Counter(uid(one) for one in made.samples) - Counter(row["uid"] for row in rows)
        return [f"{len(missing)} samples lost in a stream without a gap"] if missing and not gaps and "gz" in made.file else []
    return [*_intact(made, rows, gaps), *_gone(made, rows, gaps, ignored)]


def uid(sample: Sample) -> str:
    return uid_of(sample.image, sample.caption)


def places(made: Mutant, key: str) -> list[tuple[int, int]] | None:
    """[start, stop) of each member of a sample in the mutated archive; None unless all are there and under their own names."""
    archive = made.archive or b""
    found = [(archive.find(one), len(one)) for one in made.regions[key]]
    if key in made.touched or any(start < 0 or _behind_extension(archive, start) for start, _ in found):
        return None
    return [(start, start + length) for start, length in found]


def _behind_extension(archive: bytes, start: int) -> bool:
    heads = (archive[start - back : start - back + BLOCK] for back in range(BLOCK, 17 * BLOCK, BLOCK) if start >= back)
    return any((header := parse_header(head)) is not None and header.type in EXTENDED for head in heads if len(head) == BLOCK)


def _intact(made: Mutant, rows: list[dict[str, Any]], gaps: list[dict[str, Any]]) -> list[str]:
    good = {row["uid"] for row in rows if row["samples_error"] is None}
    blamed = {row["key"] for row in rows if row["samples_error"] is not None}
    begun = [row["image_offset"] for row in rows if row["location"] == "tar_range" and row["image_offset"] is not None]
    found = []
    for one in made.samples:
        there = places(made, one.key)
        if there is None or uid(one) in good or one.key in blamed:
            continue
        first, last = min(start for start, _ in there), max(stop for _, stop in there)
        before = max((offset for offset in begun if offset <= first), default=0)
        if not any(before <= gap["offset"] <= last for gap in gaps if not gap["kind"].endswith("_sidecar")):
            found.append(f"{one.key} is whole in the archive, but not in the account")
    return found


def _gone(made: Mutant, rows: list[dict[str, Any]], gaps: list[dict[str, Any]], ignored: dict[str, int]) -> list[str]:
    keys = {row["key"] for row in rows}
    gone = [one.key for one in made.samples if one.key not in keys | made.touched]
    if not gone or gaps or ignored or (not made.only_contents and sound(made.archive or b"")):
        return []
    return [f"{len(gone)} samples are gone and nothing says so: {gone[:3]}"]


def sound(archive: bytes) -> bool:
    """Whether the standard library, too, finds one member behind the other up to an end mark and nothing behind it."""
    end = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            for info in opened:
                if info.offset != end:
                    return False
                end = info.offset_data + -(-info.size // BLOCK) * BLOCK
    except (tarfile.TarError, ValueError, OverflowError):   # all of them come out of tarfile
        return False
    blocks = (len(archive) - end) / BLOCK
    return not archive[end:].strip(b"\0") and END_MARK <= blocks < END_MARK + RECORD


def _parquet(made: Mutant, rows: list[dict[str, Any]], gaps: list[dict[str, Any]]) -> list[str]:
    if not made.groups:
        return []
    unread = [gap["kind"] for gap in gaps if gap["samples"] is None]
    missing = sum(gap["samples"] or 0 for gap in gaps)
    found = []
    if not unread and len(rows) + missing != len(made.samples):
        found.append(f"{len(made.samples)} rows, {len(rows)} read, {missing} named")
    uids = {row["uid"] for row in rows}
    for start, content, samples in made.groups if not unread else []:
        if made.content.startswith(content, start) and not {uid(one) for one in samples} <= uids:
            found.append("a row group that is whole was not read")
    return found
