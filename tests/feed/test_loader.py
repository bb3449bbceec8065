"""Batches of real tars by real worker processes: every sample once, and exactly from where it was stopped."""

import json
import os
import shutil
import signal
from itertools import islice
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.feed.dataset import Feed, Fields
from pipeline.feed.loader import Loader
from tests.feed.conftest import COUNTS, jpeg, numbers

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")   # more processes than this machine has CPUs
TOTAL = sum(COUNTS)
BYTES = Fields(image=None)


def loaders(export: Path | str, ranks: int, workers: int, **options: object) -> list[Loader]:
    settings = {"batch_size": 5, "fields": BYTES, "block": 4, "window": 16, "seed": 3, **options}
    feeds = [Feed(str(export), rank=rank, world=ranks, **settings) for rank in range(ranks)]   # type: ignore[arg-type]
    return [Loader(feed, workers=workers) for feed in feeds]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_sample_comes_once_in_an_epoch_over_uneven_shards(export: Path, ranks: int, workers: int) -> None:
    readers = loaders(export, ranks, workers)
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


@pytest.mark.parametrize("tail", ["drop", "pad", "wrap"])
def test_ranks_have_equally_many_batches_where_that_is_asked_for(export: Path, tail: str) -> None:
    parts = [list(loader) for loader in loaders(export, 3, 2, tail=tail)]
    assert len({len(part) for part in parts}) == len({len(numbers(part)) for part in parts}) == 1
    fed = sorted(number for part in parts for number in numbers(part))
    missing = TOTAL % 6
    assert len(fed) == TOTAL - missing if tail == "drop" else len(fed) == TOTAL + 6 - missing
    assert len(set(fed)) == (len(fed) if tail == "drop" else TOTAL)


@pytest.mark.parametrize("stop", [7, 20])
@pytest.mark.parametrize(
    ("before", "after"), [((1, 2), (1, 2)), ((1, 3), (1, 3)), ((2, 2), (3, 1)), ((1, 0), (2, 0)), ((2, 0), (2, 2))])
def test_stopped_anywhere_the_rest_comes_once_and_in_the_same_order_where_the_readers_are_the_same(
    export: Path, stop: int, before: tuple[int, int], after: tuple[int, int],
) -> None:
    seen, states, expected = list[int](), [], []
    for loader, whole in zip(loaders(export, *before), loaders(export, *before), strict=True):
        seen += numbers(list(islice(iter(loader), stop // before[0])))
        states.append(json.loads(json.dumps(loader.state_dict())))
        expected.append(numbers(list(whole)))
    rest = []
    for rank, loader in enumerate(loaders(export, *after)):
        loader.load_state_dict(states[rank] if before[0] == after[0] else states)
        rest.append(list(loader))
        assert loader.epoch == 1
    assert sorted(seen + [number for part in rest for number in numbers(part)]) == list(range(TOTAL))
    if before == after:
        for rank, part in enumerate(rest):
            assert numbers(part) == expected[rank][len(expected[rank]) - len(numbers(part)):]


def test_a_state_of_other_samples_or_without_a_rank_is_refused(export: Path, tmp_path: Path) -> None:
    state = loaders(export, 2, 0)[0].state_dict()
    with pytest.raises(InputError, match="the state of rank 1 of 2 is missing"):
        loaders(export, 3, 0)[0].load_state_dict([state])
    with pytest.raises(InputError, match="the state is of other samples"):
        loaders(export, 2, 0, seed=4)[0].load_state_dict(state)


def killed_at_sample_99(captions: list[str]) -> torch.Tensor:
    if "sample 99" in captions:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.empty(0)


def fed_until_killed(export: Path, answer: Connection) -> None:
    """In a process of its own: torch raises the death of a worker wherever the main thread is."""
    loader = loaders(export, 1, 2, fields=Fields(image=None, tokens=killed_at_sample_99))[0]
    seen: list[int] = []
    try:
        for batch in loader:
            seen += numbers([batch])
    except RuntimeError as error:
        answer.send((str(error), seen, loader.state_dict()))


def test_a_worker_that_is_killed_is_an_error_and_the_rest_comes_once(export: Path) -> None:
    mine, its = Pipe()
    process = get_context("fork").Process(target=fed_until_killed, args=(export, its))
    process.start()
    assert mine.poll(120)
    error, seen, state = mine.recv()
    process.join(60)
    assert "killed by signal" in error or "exited unexpectedly" in error
    again = loaders(export, 1, 2)[0]
    again.load_state_dict(state)
    assert sorted(seen + numbers(list(again))) == list(range(TOTAL))
    assert 0 < len(seen) < TOTAL


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


def test_from_an_object_store_the_same_batches_come_by_ranges_in_worker_processes_too(export: Path, s3_server: str) -> None:
    fsspec.filesystem("s3").put(str(export), "bucket/export", recursive=True)
    near, far = ([numbers(list(loader)) for loader in loaders(place, 1, 2)] for place in (export, "s3://bucket/export"))
    assert far == near
