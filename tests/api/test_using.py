"""docs/using.md is run as it stands, on the demo's output."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

DOCUMENT = Path(__file__).parents[2] / "docs" / "using.md"


@pytest.fixture
def blocks(demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The document's programs, in a folder where `curated` is the demo's root."""
    (tmp_path / "curated").symlink_to(demo_root)
    monkeypatch.chdir(tmp_path)
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def test_the_training_loop_sees_every_sample_with_its_labels(blocks: list[str], demo_root: Path) -> None:
    scope: dict[str, Any] = {"seen": []}
    loop = blocks[0].replace("    ...\n", "    seen.append((images.shape, len(captions), targets.sum(dim=1)))\n")
    exec(loop, scope)
    total = sum(pq.read_metadata(path).num_rows for path in demo_root.glob("shards/*.parquet"))
    assert sum(count for _, count, _ in scope["seen"]) == total
    assert all(shape[1:] == (3, 64, 64) for shape, _, _ in scope["seen"])
    weights = torch.cat([sums for _, _, sums in scope["seen"]])
    assert ((weights - 1).abs() < 1e-3).all()


def test_what_is_known_is_joined_with_the_package_and_without(blocks: list[str]) -> None:
    scope: dict[str, Any] = {}
    exec(blocks[1], scope)
    assert len(scope["images"]) == scope["table"].num_rows > 500
    exec(blocks[2], scope)
    row = scope["table"].column("uid").to_pylist().index(scope["first"]["uid"])
    assert (scope["vector"] == scope["images"][row]).all()
