"""Exports read by Hugging Face's `datasets`: `pytest tests/export/hf_datasets.py` (pip install datasets, in an environment of its
own). Not collected by a plain `pytest`: it is no dependency of ours.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.export.plan import OutputShard
from pipeline.export.sample_json import sample_json
from pipeline.export.side_files import side_files
from pipeline.store.store import Store
from tests.export.test_export import sample

datasets = pytest.importorskip("datasets")


ALIKE, MIXED = {"url": "http://x"}, {"url": "http://x", "licence": None}
"""Original metadata: of one shape, or with a value that the first samples lack."""


def rows(empty_first: int, original: dict[str, Any]) -> Iterator[bytes]:
    """JSON objects of which the first have no entity and no label."""
    for number in range(12):
        known = number >= empty_first
        yield sample_json(sample(
            json.dumps(original if number < 6 else {key: value or "CC0" for key, value in original.items()}).encode(),
            entities=[{"id": "n1", "name": "dog", "z": 2.5}] if known else [], labels=[1] if known else None,
            label_weights=[1.0] if known else None, label_levels=[[4]] if known else None), {1: "one"})


def export(folder: Path, empty_first: int, original: dict[str, Any], extensions: tuple[str, ...] = ("jpg",)) -> Path:
    """A folder as an export leaves it."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    folder.mkdir()
    with tarfile.open(folder / "000000.tar", "w") as archive:
        for number, content in enumerate(rows(empty_first, original)):
            extension = extensions[number % len(extensions)]
            for end, part in ((extension, picture.getvalue()), ("json", content), ("txt", b"a dog")):
                member = tarfile.TarInfo(f"0000000{number:03d}.{end}")
                member.size = len(part)
                archive.addfile(member, io.BytesIO(part))
    store = Store(str(folder))
    store.write_json("000000_stats.json", {"bytes": 1, "sha256": "", "extensions": sorted(extensions)})
    planned = [OutputShard(0, ())]
    side_files(Store(str(folder.parent)), folder.name, planned, {"recipe": "sample"})
    return folder


def read(*arguments: Any, **options: Any) -> list[Any]:
    return list(datasets.load_dataset(*arguments, split="train", **options))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("empty_first", [0, 1, 5, 7, 12])
def test_the_folder_is_a_dataset_whatever_its_first_samples_are(tmp_path: Path, empty_first: int, streaming: bool) -> None:
    folder = export(tmp_path / "export", empty_first, MIXED, ("jpg", "png", "webp"))
    found = read(str(folder), streaming=streaming, cache_dir=str(tmp_path / "cache"))
    assert [len(one["json"]["entities"] or ()) for one in found] == [number >= empty_first for number in range(12)]
    assert [[name for name in ("jpg", "png", "webp") if one[name] is not None] for one in found[:3]] == [["jpg"], ["png"], ["webp"]]


@pytest.mark.parametrize("empty_first", [0, 1, 5, 7, 12])
def test_the_tars_alone_are_read_by_what_their_first_samples_have(tmp_path: Path, empty_first: int) -> None:
    folder = export(tmp_path / "export", empty_first, ALIKE)
    tars = {"train": [str(folder / "000000.tar")]}
    assert len(read("webdataset", data_files=tars, cache_dir=str(tmp_path / "cache"))) == 12
