"""docs/training.md is run as it stands, on the demo's output."""

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.feed.dataset import Feed

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_document_s_programs_feed_every_kept_sample_twice_and_go_on(
    demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "curated").symlink_to(demo_root)
    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, Any] = {"seen": []}
    exec(first.replace('batch["image"] ', 'seen.append(batch); batch["image"] '), scope)
    kept = Feed("curated").order().total
    assert kept == sum(len(batch["uid"]) for batch in scope["seen"][: len(scope["seen"]) // 2])
    assert sum(len(batch["uid"]) for batch in scope["seen"]) == 2 * kept
    batch = scope["seen"][0]
    assert (batch["image"].shape, batch["labels"].shape) == ((32, 3, 64, 64), (32, 8))
    assert (batch["labels"][:, 0] >= 0).all()
    assert ((batch["label_weights"].sum(dim=1) - 1).abs() < 1e-3).all()
    exec(second, scope)
    assert scope["again"].epoch == 2
