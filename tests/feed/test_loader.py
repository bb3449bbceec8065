"""Batches of real tars: every sample once, and by name what cannot be fed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.feed.dataset import Feed, Fields
from pipeline.feed.loader import Loader
from tests.feed.conftest import COUNTS, jpeg, loaders, numbers

TOTAL = sum(COUNTS)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_sample_comes_once_in_an_epoch_over_uneven_shards(export: Path, ranks: int) -> None:
    readers = loaders(export, ranks, 0)
    expected = [len(loader) for loader in readers]
    batches = [list(loader) for loader in readers]
    assert sorted(number for part in batches for number in numbers(part)) == list(range(TOTAL))
    assert [len(part) for part in batches] == expected
    assert [loader.epoch for loader in readers] == [1] * ranks


def test_a_batch_is_what_lies_in_the_tars(export: Path) -> None:
    feed = Feed(str(export), batch_size=7, fields=Fields(labels=2), shuffle=False)
    batch = next(iter(Loader(feed)))
    assert batch["caption"] == [f"sample {i}" for i in range(7)]
    assert batch["key"][:2] == ["0000000000", "0000000001"]
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (7, 3, 224, 224)
    assert [round(float(image.float().mean())) for image in batch["image"]] == pytest.approx([2 * i for i in range(7)], abs=2)
    assert batch["labels"].tolist() == [[-1, -1], [1, -1], [2, 9], [-1, -1], [4, -1], [5, 9], [-1, -1]]
    assert batch["label_weights"].numpy() == pytest.approx(np.array([[0, 0], [.7, 0], [.7, .3], [0, 0], [.7, 0], [.7, .3], [0, 0]]))


def test_epochs_differ_and_the_same_seed_gives_the_same_bits(export: Path) -> None:
    fields = Fields(tokens=lambda captions: torch.tensor([len(caption) for caption in captions]))
    first, second = (Loader(Feed(str(export), batch_size=64, fields=fields)) for _ in range(2))
    one, other = list(first), list(second)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in ("image", "tokens"))
    assert numbers(one) == numbers(other) != numbers(list(first))


def test_a_state_of_other_samples_or_without_a_rank_is_refused(export: Path, tmp_path: Path) -> None:
    state = loaders(export, 2, 0)[0].state_dict()
    with pytest.raises(InputError, match="the state of rank 1 of 2 is missing"):
        loaders(export, 3, 0)[0].load_state_dict([state])
    with pytest.raises(InputError, match="the state is of other samples"):
        loaders(export, 2, 0, seed=4)[0].load_state_dict(state)


def test_a_picture_that_cannot_be_decoded_is_left_out_by_name(
    export: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    folder = shutil.copytree(export, tmp_path / "export")
    tar = folder / "000003.tar"
    content, hurt = tar.read_bytes(), jpeg(45)
    assert content.count(hurt) == 1
    tar.write_bytes(content.replace(hurt, b"\0" * len(hurt)))
    batches = list(Loader(Feed(str(folder), batch_size=9)))
    assert sorted(numbers(batches)) == [n for n in range(TOTAL) if n != 45]
    assert [name for batch in batches for name in batch["skipped"]] == ["000003.tar:0000030003"]
    assert "000003.tar, sample 0000030003: skipped: UnidentifiedImageError" in caplog.text


def test_without_offsets_a_tar_on_a_disk_is_looked_through(export: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(export, tmp_path / "export")
    for path in folder.glob("*.parquet"):
        path.unlink()
    looked, known = ([numbers(list(loader)) for loader in loaders(place, 2, 0)] for place in (folder, export))
    assert looked == known
    (folder / "000001.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(InputError, match="no tar header at byte 0"):
        list(loaders(folder, 1, 0)[0])


def test_a_folder_without_counts_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no sizes\.json, which says how many samples each tar has"):
        Feed(str(tmp_path))


def test_the_same_holds_of_worker_processes() -> None:
    """In an interpreter of its own: workers are forked, and this one may have threads of whatever was tested before."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    file = Path(__file__).with_name("in_processes.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count(".") > 25
