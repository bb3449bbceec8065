"""What shards say of classes adds up to what the run says, however it is parted."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.reduce.describe import tallies
from pipeline.reduce.describe.presence import class_counts, presence
from pipeline.reduce.describe.quality import Counting, tally
from pipeline.search.nearest import nearest
from pipeline.store.store import Store
from pipeline.vectors import Floats, unit

KINDS = ["dog", "cat", "car"]
PARENTS = {"dog": ["pet"], "cat": ["pet"]}


@pytest.fixture(scope="module")
def rows() -> tuple[Floats, Floats, list[list[str]]]:
    rng = np.random.default_rng(0)
    x, centroids = unit(rng.standard_normal((700, 8))), unit(rng.standard_normal((40, 8)))
    entities = [[KINDS[i] for i in np.flatnonzero(rng.random(3) < 0.4)] for _ in range(700)]
    return x, centroids, entities


def written(store: Store, rows: tuple[Floats, Floats, list[list[str]]], cuts: tuple[int, ...]) -> tuple[list[str], Counting]:
    """The tallies of runs of rows as one file each; their names."""
    x, centroids, entities = rows
    counting = Counting(len(centroids), margin=0.1, share=0.5, seed=3)
    ids = []
    for number, (start, stop) in enumerate(pairwise(cuts)):
        classes, cosines = nearest(x[start:stop], centroids, 2)
        found = tally(counting, np.arange(start, stop), classes, cosines)
        counts = class_counts(presence(entities[start:stop], PARENTS, 4), classes[:, 0], len(centroids))
        tallies.write_tallies(store, "tallies", {str(number): (found, counts)})
        ids.append(str(number))
    return ids, counting


@pytest.mark.parametrize("cuts", [(0, 700), (0, 1, 1, 333, 700), tuple(range(0, 701, 7))])
def test_files_of_any_parts_merge_to_the_same_account(
    rows: tuple[Floats, Floats, list[list[str]]], tmp_path: Path, cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(tallies, "TOGETHER", 5)
    names, counting = written(store, rows, cuts)
    several = tallies.merged_tallies(store, "tallies", names[1::2], counting)
    tallies.write_tallies(store, "tallies", {"several": several})   # as a worker writes its shards'
    merged, counts = tallies.merged_tallies(store, "tallies", ["several", *names[::2][::-1]], counting)
    x, centroids, entities = rows
    ids, cosines = nearest(x, centroids, 2)
    whole = tally(counting, np.arange(700), ids, cosines)
    for name in ("sizes", "similarity", "histogram", "sampled", "pairs", "between"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name)), name
    for kind in ("nearest", "farthest"):
        for name in ("classes", "rows", "similarity"):
            assert np.array_equal(getattr(getattr(merged.members, kind), name), getattr(getattr(whole.members, kind), name))
    assert counts.cells.equals(class_counts(presence(entities, PARENTS, 4), ids[:, 0], len(centroids)).cells)
    assert len(merged.pairs) > 10
    assert sum(merged.sizes) == 700


def test_a_shard_without_kept_samples_adds_nothing(rows: tuple[Floats, Floats, list[list[str]]], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    names, counting = written(store, rows, (0, 0, 700))
    assert tallies.merged_tallies(store, "tallies", names, counting)[0].sizes.sum() == 700
    assert tallies.merged_tallies(store, "tallies", [], counting)[1].samples == 0


def test_the_members_of_each_class_stand_where_cards_says(rows: tuple[Floats, Floats, list[list[str]]], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    names, counting = written(store, rows, (0, 700))
    nearest_ones = tallies.merged_tallies(store, "tallies", names, counting)[0].members.nearest
    places = tallies.member_slices(nearest_ones, counting.k)
    assert len(places) == counting.k
    for c, place in enumerate(places):
        assert set(nearest_ones.classes[place]) <= {c}
        assert list(nearest_ones.similarity[place]) == sorted(nearest_ones.similarity[place], reverse=True)
    assert sum(place.stop - place.start for place in places) == len(nearest_ones.rows)
