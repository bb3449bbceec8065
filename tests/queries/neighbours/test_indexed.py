"""Indexes of a root: what they find beside exact search, among samples that meet a condition, and when they are not asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.api.progress import Silent
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.passes.index.build import build_index
from pipeline.queries.neighbours import catalogue as catalogues
from pipeline.queries.neighbours import indexed as indexes
from pipeline.queries.neighbours.catalogue import Catalogue, Found
from pipeline.queries.neighbours.indexed import StoredIndex
from pipeline.queries.neighbours.selection import RowSet
from pipeline.root.existing import gathered
from pipeline.root.log import EventLog
from pipeline.store.store import Store
from tests.queries.neighbours.test_exact import queries


def with_index(demo: Catalogue, folder: Path, **settings: Any) -> Catalogue:
    """The demo root, and the index that its recipe would have with these settings."""
    for entry in Path(demo.plan.root.url).iterdir():
        if entry.name not in ("tables", "log", ".partial"):
            (folder / entry.name).symlink_to(entry)
    (folder / "tables").mkdir()
    for entry in (Path(demo.plan.root.url) / "tables").iterdir():
        (folder / "tables" / entry.name).symlink_to(entry)
    recipe = demo.plan.recipe.model_copy(update={"index": demo.plan.recipe.index.model_copy(update=settings)})
    plan = replace(demo.plan, root=Store(str(folder)), recipe=recipe)
    build_index(plan, gathered(plan), Driver(plan.root, LocalExecutor(), Silent(), EventLog(plan.root)))
    return Catalogue(plan)


@pytest.fixture(scope="module")
def indexed(demo: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return with_index(demo, tmp_path_factory.mktemp("indexed"), of="kept", kind="ivf")


@pytest.fixture
def no_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is asked however few samples are meant."""
    monkeypatch.setattr(catalogues, "NARROW", 0)


def recall(found: Found, exact: Found) -> float:
    assert exact.exact
    assert not found.exact
    hits = sum(len(set(one) & set(other) - {-1}) for one, other in zip(found.ids.tolist(), exact.ids.tolist(), strict=True))
    return hits / (exact.ids >= 0).sum()


@pytest.mark.parametrize("modality", ["image", "text"])
def test_captions_find_their_own_picture_by_the_index_as_often_as_by_exact_search(indexed: Catalogue, modality: Any) -> None:
    """On the sample, within .01; and the ten nearest as the index's own measurement says."""
    kept = indexed.nearest(queries(1, indexed.dimension), 576, exact=True).ids[0]
    other: Any = "text" if modality == "image" else "image"
    vectors = indexed.vectors(kept, other)
    found, exact = (indexed.nearest(vectors, 10, modality=modality, exact=exact) for exact in (False, True))
    own = [(answer.ids == kept[:, None]).any(axis=1).mean() for answer in (found, exact)]
    assert abs(own[0] - own[1]) <= 0.01
    assert recall(found, exact) >= 0.93


def test_an_index_that_looks_everywhere_finds_what_exact_search_finds(indexed: Catalogue) -> None:
    asked = queries(40, indexed.dimension)
    found, exact = indexed.nearest(asked, 5, effort=10_000), indexed.nearest(asked, 5, exact=True)
    np.testing.assert_array_equal(found.ids, exact.ids)
    np.testing.assert_allclose(found.similarities, exact.similarities, atol=1e-3)   # half precision


@pytest.mark.usefixtures("no_narrow")
@pytest.mark.parametrize(("where", "share"), [
    ({"language": "en"}, 0.8), ({"width": {"min": 200}}, 0.5), ({"width": {"max": 120}}, 0.1), ({"class_id": 3}, 0.02)])
def test_among_few_the_index_finds_nine_of_ten(indexed: Catalogue, where: Any, share: float) -> None:
    asked = queries(60, indexed.dimension)
    meant = indexed._meant(indexed.check(10, where=where))
    assert 0.3 * share < meant.count / 576 < 3 * share
    found, exact = indexed.nearest(asked, 10, where=where), indexed.nearest(asked, 10, where=where, exact=True)
    assert recall(found, exact) >= 0.9
    assert meant.has(found.ids)[found.ids >= 0].all()


def test_where_the_index_is_of_no_use_every_vector_is_compared(indexed: Catalogue, demo: Catalogue) -> None:
    asked = queries(3, indexed.dimension)
    for options in ({"verdict": "rejected"}, {"verdict": "any"}, {"where": {"class_id": 3}}, {"exact": True}):
        found, expected = indexed.nearest(asked, 4, **options), demo.nearest(asked, 4, **options)
        assert found.exact
        np.testing.assert_array_equal(found.ids, expected.ids)


def test_many_that_are_far_away_are_found_by_asking_for_more(indexed: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are meant are the farthest half from the query: none is among the first that the index finds."""
    asked = queries(1, indexed.dimension)
    ranked = indexed.nearest(asked, 576, exact=True).ids[0]
    far = RowSet.of([ranked[288:]])
    index = indexed._index("image")
    assert index is not None
    for most in (indexes.LISTED, 0):   # told which are meant, and too many to be told
        monkeypatch.setattr(indexes, "LISTED", most)
        assert index.search(asked, 3, far, 10_000).ids[0].tolist() == ranked[288:291].tolist()


def test_rounded_vectors_are_measured_again(demo: Catalogue, tmp_path: Path) -> None:
    rounded = with_index(demo, tmp_path, of="all", kind="ivfsq", modality=("image",))
    asked = queries(30, rounded.dimension)
    exact = rounded.nearest(asked, 10, verdict="any", exact=True)
    found = rounded.nearest(asked, 10, verdict="any", effort=10_000)   # 8 bits a value are all that is lost
    assert recall(found, exact) >= 0.99
    same = found.ids == exact.ids
    np.testing.assert_allclose(found.similarities[same], exact.similarities[same], atol=1e-7)
    assert isinstance(rounded._index("image"), StoredIndex)
    assert rounded._index("text") is None
    assert rounded.nearest(asked, 2, modality="text", verdict="any").exact


def test_a_set_of_rows_knows_its_ids() -> None:
    ids = (np.array([3, 0, 3, 3], np.int64) << 32) | np.array([9, 5, 0, 1000])
    rows = RowSet.of([ids[:2], ids[2:], np.zeros(0, np.int64)])
    assert rows.count == 4
    assert rows.rows(3).tolist() == [0, 9, 1000]
    assert rows.rows(1).tolist() == []
    assert rows.has(np.array([[ids[0], ids[1] + 1], [-1, ids[3]], [ids[3] + 1, 1 << 32]])).tolist() == [
        [True, False], [False, True], [False, False]]
