"""Exact search over stored embeddings: every vector that is meant is compared, whatever the blocks and threads."""

from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.queries.neighbours import best as streamed
from pipeline.queries.neighbours import exact
from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.queries.neighbours.selection import RowSet
from pipeline.vectors import Floats, unit
from tests.queries.neighbours.conftest import Stored, by_hand


def queries(count: int, dimension: int, seed: int = 0) -> Floats:
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


@pytest.mark.parametrize("k", [1, 10, 2000])
def test_exact_search_finds_what_one_product_of_all_finds(demo: Catalogue, stored: Stored, k: int) -> None:
    asked = queries(20, demo.dimension)
    found, (ids, similarities) = demo.nearest(asked, k, verdict="any"), by_hand(stored, asked, k)
    assert found.exact
    there = ids.shape[1]   # fewer samples than 2000
    np.testing.assert_array_equal(found.ids[:, :there], ids)
    np.testing.assert_array_equal(found.similarities[:, :there], similarities)
    assert (found.ids[:, there:] == -1).all()
    assert (found.similarities[:, there:] == -np.inf).all()


def test_blocks_and_threads_change_no_bit(demo: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = queries(7, demo.dimension)
    at_once = demo.nearest(asked, 5)
    monkeypatch.setattr(streamed, "BLOCK", 41)
    monkeypatch.setattr(streamed, "FEWEST", 41)
    monkeypatch.setattr(exact, "READ", 17)
    monkeypatch.setattr(exact, "WORKERS", 1)
    in_pieces = demo.nearest(asked, 5)
    np.testing.assert_array_equal(in_pieces.ids, at_once.ids)
    np.testing.assert_array_equal(in_pieces.similarities, at_once.similarities)
    one_by_one = [demo.nearest(asked[i : i + 1], 5).ids[0] for i in range(len(asked))]
    np.testing.assert_array_equal(one_by_one, at_once.ids)


def test_equal_vectors_rank_by_row_id(demo: Catalogue, stored: Stored) -> None:
    _, inverse, counts = np.unique(stored.vectors, axis=0, return_inverse=True, return_counts=True)
    copies = [np.flatnonzero(inverse == group) for group in np.flatnonzero(counts > 1)]
    copies = [places for places in copies if stored.vectors[places[0]].any()]
    assert copies   # the sample has exact duplicates
    for places in copies:
        found = demo.nearest(stored.vectors[places[:1]], len(places), verdict="any")
        assert found.ids[0].tolist() == stored.ids[places].tolist()


@pytest.mark.parametrize(("verdict", "where", "meant"), [
    ("kept", None, lambda verdict: verdict == "kept"),
    ("rejected", None, lambda verdict: verdict.startswith("rejected:")),
    ("rejected:clip_similarity", None, lambda verdict: verdict == "rejected:clip_similarity"),
    ("kept", {"verdict": ["rejected:tiny", "kept"]}, lambda verdict: verdict in ("rejected:tiny", "kept")),
])
def test_only_what_is_meant_is_found(demo: Catalogue, stored: Stored, verdict: str, where: Any, meant: Any) -> None:
    asked, among = queries(5, demo.dimension), np.array([meant(name) for name in stored.verdicts])
    found = demo.nearest(asked, 12, verdict=verdict, where=where)
    np.testing.assert_array_equal(found.ids, by_hand(stored, asked, 12, among)[0])


def test_bounds_and_listed_rows_hold_together(demo: Catalogue) -> None:
    shard = demo.plan.shards[2].shard_id
    rows = np.array([40, 3, 5, 4])
    listed = RowSet.of([(2 << 32) | rows[:2], (2 << 32) | rows[2:]])
    heights = {row: demo.columns.read(shard, ["height"])["height"][row].as_py() for row in sorted(rows.tolist())}
    most = sorted(heights.values())[1]
    found = demo.nearest(queries(1, demo.dimension), 10, where={"height": {"max": most}}, verdict="any", listed=listed)
    expected = [row for row, height in heights.items() if height <= most]
    assert 0 < len(expected) < len(rows)
    assert sorted(hit.row for hit in demo.answers(found)[0]) == expected
    assert {hit.shard_id for hit in demo.answers(found)[0]} == {shard}


@pytest.mark.parametrize(("vectors", "options", "message"), [
    (np.zeros((1, 256), np.float32), {}, "query 0 is all zeros"),
    (np.full((1, 256), np.nan, np.float32), {}, "query 0 has values that are no finite"),
    (np.full((1, 256), np.inf), {}, "query 0 has values that are no finite"),
    (np.ones((1, 255), np.float32), {}, "has 256 values, a query 255: embed it by the same model"),
    (np.ones(256, np.float32), {}, r"queries are numbers \[q, 256\]"),
    (np.full((1, 256), "x"), {}, r"queries are numbers \[q, 256\]"),
    (np.ones((1, 256)), {"k": 0}, "k is 0: ask for 1 to 100,000"),
    (np.ones((1, 256)), {"k": 100_001}, "k is 100,001: ask for 1 to 100,000"),
    (np.ones((1, 256)), {"modality": "sound"}, "choose image or text"),
    (np.ones((1, 256)), {"verdict": "rejected:tony"}, "has no verdict 'rejected:tony'"),
    (np.ones((1, 256)), {"where": {"clip_similarty": {"min": 0}}}, "clip_similarity"),
    (np.ones((1, 256)), {"where": {"width": {"min": "wide"}}}, "where: width"),
])
def test_what_cannot_be_compared_is_refused(demo: Catalogue, vectors: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        demo.nearest(vectors, **{"k": 3, **options})
