"""Indexes of a run: the same bytes however they are made, what was added is found, what went is not."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError, RootError
from pipeline.passes.index import build, fill, measure
from pipeline.search.index.ids import NOTHING
from pipeline.search.index.lists import ListFile
from pipeline.search.index.trained import TrainedIndex
from pipeline.vectors import Ints
from tests.passes.index.embedded import VERDICTS, Embedded, Killed

COUNTS = (900, 0, 1, 700, 1_300)


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups and ranges are small: there are several of each."""
    monkeypatch.setattr(build, "TOGETHER", 1 << 16)
    monkeypatch.setattr(fill, "TOGETHER", 1 << 16)


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "QUERIES_HELD", 64)


def ids_in(made: Embedded, name: str, modality: str = "image") -> Ints:
    """i64, ascending: the ids in the file of an index."""
    content = made.store.read(f"tables/{name}/{modality}.index")
    file = ListFile.of(TrainedIndex(made.store.read(f"tables/{name}/{modality}.trained.index")), lambda a, b: content[a:b])
    return np.sort(file.entries(0, file.trained.lists).ids)


@pytest.mark.usefixtures("several")
def test_bytes_are_the_same_in_any_order_of_work_and_after_kills(tmp_path: Path) -> None:
    made = Embedded.sized(tmp_path, COUNTS)
    record = made.build("one", kind="ivf")
    made.build("other", kind="ivf", executor=Killed(backwards=True))   # as another worker would be the first
    kills = 0
    while True:   # eight items each time, then dead
        try:
            made.build("killed", kind="ivf", executor=Killed(8, backwards=bool(kills % 2)))
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills > 2
    assert made.files("one") == made.files("other") == made.files("killed")
    assert made.store.folders(".partial") == []   # nothing is left over
    assert record.indexes["image"].vectors == sum(COUNTS)
    assert record.indexes["image"].lists > 32
    for file in record.indexes.values():
        assert [one.share for one in file.measured] == [1.0, 0.1, 0.01]
        assert all(one.recall >= 0.95 for one in file.measured)


@pytest.mark.usefixtures("several")
def test_what_comes_later_is_added_and_the_index_is_as_if_it_had_been_there(tmp_path: Path) -> None:
    made = Embedded.sized(tmp_path, COUNTS)
    first = [f"s{number}" for number in range(4)]
    made.build("first", kind="ivf", shards=first, modality=["image"])
    record = made.build("grown", "first", kind="ivf", modality=["image"])
    assert (record.base, record.added, record.removed) == ("tables/first", COUNTS[4], 0)
    assert record.indexes["image"].trained_at == sum(COUNTS[:4])
    index, shards = made.opened("grown", record)
    for shard_id in ("s0", "s4"):
        found = index.search(made.shards[shard_id][:50], 1).ids[:, 0]
        assert found.tolist() == shards.ids(shard_id, np.arange(50)).tolist()
    one, other = (made.files(name) for name in ("first", "grown"))
    assert one["image.trained.index"] == other["image.trained.index"]
    made.build("twice", "first", kind="ivf", shards=["s0", "s1", "s2"], modality=["image"])
    again = made.build("thrice", "twice", kind="ivf", modality=["image"])   # s3 went and came back, by another number
    assert (again.base, again.added, again.shards) == ("tables/twice", COUNTS[3] + COUNTS[4], 6)
    assert again.indexes["image"].vectors == sum(COUNTS)


@pytest.mark.usefixtures("several")
def test_what_is_no_longer_kept_is_never_found(tmp_path: Path) -> None:
    made = Embedded.sized(tmp_path, COUNTS)
    made.judged({})
    made.build("all", kind="ivf", verdicts=VERDICTS, modality=["image"])
    gone = {"s0": list(range(0, 900, 3)), "s3": [5]}
    made.judged(gone)
    record = made.build("less", "all", kind="ivf", verdicts=VERDICTS, shards=["s0", "s2", "s3"], modality=["image"])
    assert (record.added, record.removed) == (600 + 699, 900 + 700 + 1_300)
    index, shards = made.opened("less", record)
    assert index.size == 600 + 1 + 699
    asked = made.shards["s0"][gone["s0"]]
    found = index.search(asked, 5, effort=index.most).ids
    dead = shards.ids("s0", np.array(gone["s0"]))
    assert not np.isin(found, dead).any()
    assert np.unique(found).min() >= 0
    assert {shard_id for shard_id, _, _ in shards.located(ids_in(made, "less"))} == {"s0", "s2", "s3"}


def test_it_is_trained_anew_where_it_can_no_longer_be_gone_on_from(tmp_path: Path) -> None:
    made = Embedded.sized(tmp_path, COUNTS)
    made.build("small", kind="ivf", shards=["s3"], modality=["image"])
    record = made.build("large", "small", kind="ivf", modality=["image"])
    assert record.base is None
    assert "trained anew, for the one before was trained at 700 vectors" in record.indexes["image"].why
    assert made.build("both", "small", kind="flat").base is None
    with pytest.raises(RootError, match=r"tables/gone, which is gone: train it anew, --set index\.grow=false"):
        made.build("lost", "gone", kind="ivf")


@pytest.mark.parametrize("kind", ["auto", "hnsw", "ivf", "ivfsq", "ivfpq"])
@pytest.mark.parametrize("counts", [(), (0,), (1,), (3, 0, 2)])
def test_few_vectors_have_an_index_of_any_kind(tmp_path: Path, kind: str, counts: tuple[int, ...]) -> None:
    made = Embedded.sized(tmp_path, counts, 13)
    record = made.build("one", kind=kind, modality=["image"])
    index, _ = made.opened("one", record)
    assert index.size == sum(counts)
    ids = index.search(np.eye(1, index.dimension, dtype=np.float32), 10).ids
    assert (ids != NOTHING).sum() == sum(counts)
    made.build("again", "one", kind=kind, modality=["image"])
    assert made.files("one")["image.index"] == made.files("again")["image.index"]


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
def test_vectors_that_are_all_equal_are_found(tmp_path: Path, kind: str) -> None:
    one = np.repeat(np.eye(1, 12, dtype=np.float32), 2_000, axis=0)
    record = (made := Embedded.write(tmp_path, {"s0": one})).build("one", kind=kind, modality=["image"])
    index, _ = made.opened("one", record)
    found = index.search(one[:1], 10)
    assert len(set(found.ids[0].tolist())) == 10
    assert np.allclose(found.similarities, 1, atol=0.02)
    assert record.indexes["image"].measured[0].recall == 1.0   # which of the equal ones it is does not matter


def test_a_graph_grows_and_is_made_anew_where_vectors_go(tmp_path: Path) -> None:
    made = Embedded.sized(tmp_path, (700, 200))
    made.build("first", kind="hnsw", shards=["s0"], modality=["image"])
    grown = made.build("grown", "first", kind="hnsw", modality=["image"])
    assert (grown.base, grown.added) == ("tables/first", 200)
    assert all(one.recall >= 0.95 and one.curve[0].effort >= 16 for one in grown.indexes["image"].measured)
    less = made.build("less", "grown", kind="hnsw", shards=["s1"], modality=["image"])
    assert less.base is None
    assert "nothing can be taken out of a graph" in less.indexes["image"].why
    assert made.opened("less", less)[0].size == 200


def test_an_index_of_a_remote_root_has_the_same_bytes_and_is_copied_to_be_mapped(tmp_path: Path) -> None:
    local, remote = Embedded.sized(tmp_path, (700, 300)), Embedded.sized("memory://indexes", (700, 300))
    record = local.build("one", kind="ivf", modality=["image"])
    assert remote.build("one", kind="ivf", modality=["image"]) == record
    assert local.files("one") == remote.files("one")
    index, shards = remote.opened("one", record)
    assert index.search(remote.shards["s1"][7:8], 1).ids.tolist() == [shards.ids("s1", np.array([7])).tolist()]


def test_what_does_not_fit_the_memory_is_refused_with_what_to_set(tmp_path: Path) -> None:
    made = Embedded.sized(tmp_path, (900,))
    with pytest.raises(InputError, match=r"index\.memory is 1\.0 kB"):
        made.build("one", kind="ivf", memory=1e-6)
