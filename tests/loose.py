"""Loose images and captions, packed, and what a run would read of it."""

from pathlib import Path
from typing import Any

from pipeline.input.discovery import discover
from pipeline.input.loose.pack import Packing, pack
from pipeline.input.reader import read
from schemas.answers.packs import Packed

JPEG = b"\xff\xd8\xff made up "


def files(folder: Path, **contents: bytes) -> None:
    """Writes files below a folder; `/` and `.` of the names are as given, by `**{"a/b.jpg": b"…"}`."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def packed(*inputs: object, output: object, **options: Any) -> Packed:
    """Packs these inputs."""
    return pack(Packing(tuple(str(one) for one in inputs), **options), str(output))


def samples(folder: object) -> dict[str, dict[str, Any]]:
    """The rows that a run reads of a folder of shards, by key; nothing of it is a gap or ignored."""
    rows: dict[str, dict[str, Any]] = {}
    for shard in discover([str(folder)]):
        reader = read(shard)
        found = [row for batch in reader for row in batch.to_pylist()]
        assert reader.gaps == []
        assert not reader.ignored
        rows |= {row["key"]: row for row in found}
    return rows


def reasons(answer: Packed) -> dict[str, int]:
    """How often what was left out for which reason."""
    return {reason: left.count for reason, left in answer.left_out.items()}
