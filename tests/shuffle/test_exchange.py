"""Work by key: the answers of the whole run in one place, for any groups, partitions and order of work, and after kills."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.api.progress import Silent
from pipeline.columns import Rows
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.root.log import EventLog
from pipeline.shuffle import answers
from pipeline.shuffle.answers import DistinctOthers, Repeats, key_rows
from pipeline.shuffle.exchange import Exchange, Group, Scattered, groups_of, through
from pipeline.shuffle.keys import partition_of, text_keys
from pipeline.store.store import Store
from pipeline.work import Item, Outcome, Work

COUNTS = (3, 0, 40, 1, 1, 90, 0, 25)
"""Rows of each shard."""


@dataclass(frozen=True)
class Texts:
    """Rows of a run whose texts are given, by their shard's first row."""

    texts: tuple[str, ...]
    others: tuple[str, ...]
    partitions: int

    def __call__(self, group: Group) -> Scattered:
        rows = slice(group.first_row, group.first_row + group.rows)
        keys, others = (text_keys(pa.array(texts[rows], pa.string())) for texts in (self.texts, self.others))
        return key_rows(np.arange(group.rows), keys, others), partition_of(keys, self.partitions)


@dataclass
class Killed(LocalExecutor):
    """Does so many items, in no order of theirs, and is killed."""

    lives: int
    reverse: bool = False
    gives_up = False

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        for outcome in super().run(work, list(items)[:: -1 if self.reverse else 1]):
            if self.lives == 0:
                raise KeyboardInterrupt
            self.lives -= 1
            yield outcome


def driven(store: Store, lives: int = 1000, *, reverse: bool = False) -> Driver:
    return Driver(store, Killed(lives, reverse), Silent(), EventLog(store))


def run_texts(seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Captions of which one is half of all, and images; some pairs are there several times."""
    rng = np.random.default_rng(seed)
    total = sum(COUNTS)
    captions = np.where(rng.random(total) < 0.5, 0, rng.integers(0, 40, total))
    return tuple(f"caption {i}" for i in captions), tuple(f"image {i}" for i in rng.integers(0, 60, total))


@pytest.fixture
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "CHUNK_ROWS", 7)
    monkeypatch.setattr(answers, "ROUND_ROWS", 10)


@pytest.mark.usefixtures("small_rounds")
@pytest.mark.parametrize(("partitions", "size", "reverse"), [(1, 1000, False), (2, 50, True), (3, 1, False)])
def test_answers_by_key_are_those_of_the_whole_run(tmp_path: Path, partitions: int, size: int, reverse: bool) -> None:
    store, (captions, images) = Store(str(tmp_path)), run_texts(seed=partitions)
    groups = groups_of(Rows(tuple(f"s{i}" for i in range(len(COUNTS))), COUNTS), size)
    assert sum(group.rows for group in groups) == len(captions)
    repeated, counted = np.zeros(len(captions), bool), np.zeros(len(captions), int)
    for name, answer in (("repeats", Repeats()), ("counts", DistinctOthers())):
        exchange = Exchange(store, f"tables/{name}@1", groups, partitions)
        through(driven(store, reverse=reverse), name, exchange, Texts(captions, images, partitions), answer)
        for group in groups:
            for table in exchange.answers(group):
                rows = np.asarray(table.column("row"), np.int64) + group.first_row
                if name == "repeats":
                    repeated[rows] = True
                else:
                    counted[rows] = np.asarray(table.column("count"))
    assert repeated.tolist() == [caption in captions[:row] for row, caption in enumerate(captions)]
    pairs = set(zip(captions, images, strict=True))
    assert counted.tolist() == [sum(caption == other for other, _ in pairs) for caption in captions]


def test_a_killed_exchange_goes_on_where_it_was_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    captions, images = run_texts(seed=9)
    groups, contents = groups_of(Rows(tuple(f"s{i}" for i in range(len(COUNTS))), COUNTS), 30), []
    for kills in ((), (2, 3)):   # in the middle of the groups, then of the partitions
        store = Store(str(tmp_path / str(len(kills))))
        exchange, rows = Exchange(store, "tables/x@1", groups, 3), Texts(captions, images, 3)
        for lives in kills:
            with pytest.raises(KeyboardInterrupt):
                through(driven(store, lives), "x", exchange, rows, Repeats())
        made = exchange.done("rows"), exchange.done("found")
        assert not kills or (len(made[0]) == len(groups) and 0 < len(made[1]) < 3)   # killed among the partitions
        through(driven(store), "x", exchange, rows, Repeats())
        contents.append({name: store.read(f"{exchange.folder}/{name}") for name in store.names(exchange.folder)})
        through(driven(store, lives=0), "x", exchange, rows, Repeats())   # nothing is left to do
        exchange.remove()
        assert not store.exists(exchange.folder)
    assert contents[0] == contents[1]
    assert len(contents[0]) == len(groups) + 3


def test_a_group_is_whole_shards_in_their_order_and_a_large_shard_is_a_group_by_itself() -> None:
    groups = groups_of(Rows(tuple(f"s{i}" for i in range(len(COUNTS))), COUNTS), 45)
    assert [[shard.shard_id for shard in group.shards] for group in groups] == [
        ["s0", "s1", "s2", "s3", "s4"], ["s5"], ["s6", "s7"]]
    assert [group.first_row for group in groups] == [0, 45, 135]
    assert not groups_of(Rows((), ()))
