"""Captions and labels of the bundled sample, and the bundled knowledge base. Ground truth is for tests and benchmarks alone."""

import json
import tarfile
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline.entities.aliases import AliasIndex, build
from pipeline.entities.knowledge_base import KnowledgeBase
from tests.archives import member_bytes

SAMPLE = Path(__file__).parent.parent / "pipeline" / "assets" / "sample"


@cache
def captions() -> dict[str, str]:
    """key -> raw caption, in shard order."""
    found: dict[str, str] = {}
    for path in sorted(SAMPLE.glob("*.tar")):
        with tarfile.open(path) as tar:
            found |= {one.name[:-4]: member_bytes(tar, one).decode() for one in tar if one.name.endswith(".txt")}
    return found


def labelled(label: str) -> list[str]:
    """Raw captions of the pairs with this label (clean, swapped, spam_caption, ...)."""
    pairs = json.loads((SAMPLE / "ground_truth.json").read_text())["pairs"]
    return [caption for key, caption in captions().items() if pairs[key]["label"] == label]


@cache
def wordnet() -> tuple[KnowledgeBase, AliasIndex]:
    """The bundled knowledge base and its alias index."""
    base = KnowledgeBase.load()
    return base, build(base)


def batch(**columns: pa.Array) -> pa.RecordBatch:
    """A record batch with uids and these columns (lists, or arrow arrays)."""
    rows = len(next(iter(columns.values())))
    return pa.RecordBatch.from_pydict({"uid": [f"{row:032x}" for row in range(rows)], **columns})
