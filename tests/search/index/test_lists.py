"""Files of inverted lists, put together from blocks: FAISS's own bytes, and what it reads of them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from pipeline.errors import InputError, RootError
from pipeline.search.index.choice import Choice, Wish, chosen, lists_for, quantisers
from pipeline.search.index.ids import NOTHING, ids_of
from pipeline.search.index.lists import Entries, ListFile, blocks, head, ordered
from pipeline.search.index.opened import OpenIndex, mapped, opened, sha256_of
from pipeline.search.index.recall import efforts
from pipeline.search.index.trained import TrainedIndex, one_thread
from pipeline.vectors import Floats, Ints, unit
from schemas.indexes import IndexFile, Kind, Measured

ROWS = 1_500


def vectors(d: int, seed: int = 0) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal((ROWS, d)))


def made(kind: Kind, code: str, lists: int, d: int) -> tuple[TrainedIndex, Floats, Ints, bytes]:
    """A trained index, the vectors, their ids, and the file."""
    x, ids = vectors(d), ids_of(5, 3 * np.arange(ROWS))
    centroids = np.zeros((1, d), np.float32) if lists == 1 else x[:lists]
    trained = TrainedIndex.of(Choice(kind, lists, code, "", ROWS, d), centroids, x, 0)
    placed, codes = trained.placed(x)
    entries = ordered(Entries(placed, ids, codes))
    return trained, x, ids, head(trained, np.bincount(entries.lists, minlength=lists)) + b"".join(blocks(entries, 0, lists))


CASES: list[tuple[Kind, str, int, int]] = [
    ("flat", "fp16", 1, 24), ("ivf", "fp16", 16, 24), ("ivfsq", "sq8", 40, 24), ("ivfpq", "pq6", 16, 24), ("ivfpq", "pq13", 3, 13)]


@pytest.mark.parametrize(("kind", "code", "lists", "d"), CASES)
def test_a_file_put_together_is_the_one_that_faiss_writes_and_is_read_by_map(
    tmp_path: Path, kind: Kind, code: str, lists: int, d: int,
) -> None:
    trained, x, ids, content = made(kind, code, lists, d)
    whole: Any = faiss.deserialize_index(np.frombuffer(trained.content, np.uint8))
    numbers = trained.placed(x)[0].astype(np.int64)
    with one_thread():
        whole.add_core(ROWS, faiss.swig_ptr(x), faiss.swig_ptr(ids), faiss.swig_ptr(numbers))
    assert bytes(faiss.serialize_index(whole)) == content
    (tmp_path / "x.index").write_bytes(content)
    index = OpenIndex(mapped(tmp_path / "x.index", kind), kind)
    assert isinstance(faiss.downcast_InvertedLists(index.index.invlists), faiss.OnDiskInvertedLists)   # mapped, no copy
    nearest = index.search(x[:20], 10, effort=index.most).ids
    assert (nearest == ids[:20, None]).any(axis=1).all()
    found = ListFile.of(trained, lambda start, end: content[start:end]).entries(lists // 2, lists)
    assert found.ids.tolist() == [int(id) for number in range(lists // 2, lists) for id in ids[numbers == number]]


def test_a_file_that_is_not_of_its_trained_index_is_refused() -> None:
    trained, _, _, content = made("ivf", "fp16", 16, 24)
    other = made("ivf", "fp16", 15, 24)[0]
    for bad in (content[:40], content.replace(b"ilar", b"ilxx"), b"", bytes(len(content))):
        with pytest.raises(RootError, match="remove the index's folder and run again"):
            ListFile.of(trained, lambda start, end, bad=bad: bad[start:end])   # type: ignore[misc]
    with pytest.raises(RootError):
        ListFile.of(other, lambda start, end: content[start:end])
    with pytest.raises(RootError, match="cannot be read"):
        TrainedIndex(b"IwSq and nothing more").index   # noqa: B018


def record(path: Path, **changed: object) -> IndexFile:
    """What index.json says of a file."""
    said = {
        "file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path), "trained_sha256": "", "vectors": ROWS,
        "dimension": 24, "kind": "ivf", "code": "fp16", "lists": 16, "why": "", "trained_on": 0, "trained_at": 0, "queries": {},
        "measured": (Measured(share=1, effort=4, recall=1, reached=True, curve=()),
                     Measured(share=0.01, effort=16, recall=1, reached=True, curve=()))}
    return IndexFile.model_validate({**said, **changed})


def test_a_damaged_file_is_refused_before_faiss_sees_it(tmp_path: Path) -> None:
    path, content = tmp_path / "x.index", made("ivf", "fp16", 16, 24)[3]
    path.write_bytes(content)
    known = record(path)
    assert opened(path, known).size == ROWS
    for damage, said in ((content[:-1], "bytes instead of"), (content[:999] + b"x" + content[1000:], "is damaged")):
        path.unlink()
        path.write_bytes(damage)
        with pytest.raises(RootError, match=said):
            opened(path, known)
    path.write_bytes(b"no index at all")
    with pytest.raises(RootError, match="no index that FAISS reads"):
        opened(path, record(path))
    path.unlink()
    with pytest.raises(RootError, match="is missing"):
        opened(path, known)


def test_searches_find_what_is_allowed_and_nothing_else(tmp_path: Path) -> None:
    path, (_, x, ids, content) = tmp_path / "x.index", made("ivf", "fp16", 16, 24)
    path.write_bytes(content)
    index = opened(path, record(path))
    products = x[:40] @ x.T
    for step in (2, 10, 150, 750):   # overfetched, between what was measured, then in all lists
        allowed = np.arange(0, ROWS, step)
        found = index.search(x[:40], 10, allowed=ids[allowed][::-1], effort=16)
        truth = ids[allowed[np.argsort(-products[:, allowed], axis=1)[:, :10]]]
        same = [len(set(one) & set(other)) for one, other in zip(found.ids.tolist(), truth.tolist(), strict=True)]
        assert sum(same) >= 0.98 * truth.size
        assert np.isin(found.ids, [*ids[allowed].tolist(), NOTHING]).all()
        assert (found.ids == NOTHING).sum() == max(0, 10 - len(allowed)) * 40
        assert (np.isneginf(found.similarities) == (found.ids == NOTHING)).all()
    assert (index.search(x[:3], 4, allowed=np.zeros(0, np.int64)).ids == NOTHING).all()
    assert index.search(x[:0], 4).ids.shape == (0, 4)
    assert (index.search(x[:1], ROWS + 5, effort=16).ids[0] == NOTHING).sum() == 5
    assert [index.effort(share) for share in (1.0, 0.1, 0.01, 0.001)] == [4, 8, 16, 16]


def test_threads_search_with_efforts_of_their_own(tmp_path: Path) -> None:
    path, (_, x, _, content) = tmp_path / "x.index", made("ivf", "fp16", 16, 24)
    path.write_bytes(content)
    index = opened(path, record(path))
    expected = {effort: index.search(x[:30], 5, effort=effort).ids.tolist() for effort in (1, 4, 16)}
    assert expected[1] != expected[16]
    with ThreadPoolExecutor(4) as pool:
        asked = [1, 4, 16] * 10
        assert [found.ids.tolist() for found in pool.map(lambda effort: index.search(x[:30], 5, effort=effort), asked)] == [
            expected[effort] for effort in asked]


@pytest.mark.parametrize("asked", [
    {"queries": np.ones((1, 25), np.float32)}, {"queries": np.full((1, 24), np.nan, np.float32)},
    {"k": 0}, {"k": -1}, {"effort": 0}])
def test_what_cannot_be_asked_is_refused(tmp_path: Path, asked: dict[str, object]) -> None:
    path = tmp_path / "x.index"
    path.write_bytes(made("ivf", "fp16", 16, 24)[3])
    question = {"queries": np.ones((1, 24), np.float32), "k": 3, **asked}
    with pytest.raises(InputError):
        opened(path, record(path)).search(**question)   # type: ignore[arg-type]


def test_the_index_goes_by_size_memory_and_latency_and_says_why() -> None:
    def kind(vectors: int, d: int = 512, **wish: float) -> str:
        choice = chosen(Wish(vectors, d, **wish))   # type: ignore[arg-type]
        assert choice.kind in choice.why
        return choice.kind

    assert kind(10_000) == "flat"
    assert kind(1_000_000) == "ivf"
    assert kind(1_000_000, latency=1e-3) == "hnsw"
    assert kind(10_000_000, latency=1e-3) == "ivf"   # a graph of so many is made by one thread for too long
    assert kind(20_000_000) == "ivfsq"
    assert kind(100_000_000) == "ivfpq"
    assert chosen(Wish(100_000_000, 512)).code == "pq128"
    with pytest.raises(InputError, match=r"set index\.memory higher"):
        chosen(Wish(10_000_000_000, 512))
    assert lists_for(1_000_000) == 4_096
    assert (lists_for(0), lists_for(1), lists_for(40)) == (1, 1, 2)
    assert [quantisers(d, 1_000) for d in (512, 13, 1, 6, 100)] == [128, 13, 1, 2, 25]
    assert efforts(10, 3) == [3, 4, 6, 8, 10]
    assert efforts(1, 1) == [1]
