"""Which fields there are that a caption could be in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.input.aside.look import Fields, fields_of
from pipeline.input.discovery import discover

ROW: dict[str, Any] = {"source_url": "u", "width": 3, "note": "a dog", "alt_text": "a dog"}


@pytest.mark.parametrize("form", ["parquet", "tar"])
def test_the_fields_of_a_shard_are_named_and_the_likeliest_caption_comes_first(
    archive: Callable[..., Path], tmp_path: Path, form: str,
) -> None:
    if form == "parquet":
        pq.write_table(pa.table({"img": [b"1"], **{name: [value] for name, value in ROW.items()}}), tmp_path / "a.parquet")
    else:
        archive(("0.jpg", b"1"), ("0.json", json.dumps(ROW).encode()), ("1.jpg", b"1"), ("1.json", b"[" * 10_000))
    (shard,) = discover([str(tmp_path)])
    found = fields_of(shard)
    assert set(found.names) - {"img"} == set(ROW)
    assert found.texts == ("alt_text", "note", "source_url")


def test_what_cannot_be_read_has_no_fields(archive: Callable[..., Path], tmp_path: Path) -> None:
    archive(("0.jpg", b"1"), cut=100)
    (shard,) = discover([str(tmp_path)])
    assert fields_of(shard) == Fields((), ())
