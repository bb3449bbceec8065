import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.reduce.classes.labels import LabelRule, labelled
from pipeline.search import inverted_file as approximate
from pipeline.search.inverted_file import EXACT, InvertedFile, ListedCentres, Search, gated, recall
from pipeline.search.kernels import FlatCentres, PackedCentres
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, unit


def planted(n: int, seed: int, modes: int = 150, d: int = 32) -> Floats:
    """Rows around modes that every seed shares."""
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(0).standard_normal((modes, d))
    return unit(unit(centre)[random.integers(modes, size=n)] + 0.08 * random.standard_normal((n, d)))


@pytest.fixture
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the gate try lists where the exact search would be chosen at once."""
    monkeypatch.setattr(approximate, "LEAST", 1)


def test_recall_is_the_share_of_the_exact_ids_found() -> None:
    found = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [5, 6, 7, 8]], np.int32)
    assert recall(found, np.array([[1, 2, 3, 4], [1, 2, 8, 9], [1, 2, 3, 4]], np.int32)).tolist() == [1, 0.5, 0]


def test_the_nearest_of_the_probed_lists_are_found_with_exact_values() -> None:
    vectors, x = planted(3000, 1), planted(500, 2)
    centres = ListedCentres(FlatCentres(vectors), InvertedFile(vectors, 50, 0), 3)
    ids, values = nearest(x, centres, 8)
    every = (x.astype(np.float64) @ vectors.T.astype(np.float64)).astype(np.float32)
    assert np.array_equal(values, np.take_along_axis(every, ids.astype(np.int64), 1))
    lists = nearest(vectors, centres.file.coarse, 1)[0][:, 0]
    probed = nearest(x, centres.file.coarse, 3)[0]
    every[~(lists[None, :, None] == probed[:, None, :]).any(axis=2)] = -np.inf
    assert np.array_equal(ids, np.argsort(-every, axis=1, kind="stable")[:, :8])


def test_every_list_probed_is_the_exact_search() -> None:
    vectors, x = planted(2000, 1), planted(300, 2)
    listed = nearest(x, ListedCentres(FlatCentres(vectors), InvertedFile(vectors, 40, 0), 40), 8)
    for one, other in zip(listed, nearest(x, vectors, 8), strict=True):
        assert np.array_equal(one, other)


def test_rows_whose_lists_hold_too_few_are_searched_exactly() -> None:
    vectors, x = planted(300, 1), planted(200, 2)
    listed = nearest(x, ListedCentres(FlatCentres(vectors), InvertedFile(vectors, 100, 0), 1), 8)
    assert (listed[0] >= 0).all()
    short = np.bincount(nearest(vectors, InvertedFile(vectors, 100, 0).coarse, 1)[0][:, 0], minlength=100) < 8
    rows = short[nearest(x, InvertedFile(vectors, 100, 0).coarse, 1)[0][:, 0]]
    assert rows.any()
    assert np.array_equal(listed[0][rows], nearest(x, vectors, 8)[0][rows])


@pytest.mark.parametrize("block", [1, 77])
def test_neither_blocks_nor_the_kernel_change_a_bit(block: int) -> None:
    vectors, x = planted(2000, 1), planted(200, 2)
    search = Search(4, 45, seed=3)
    whole = nearest(x, search.centres(vectors, FlatCentres), 8)
    packed = search.centres(vectors, PackedCentres)
    parts = [nearest(x[at : at + block], packed, 8) for at in range(0, len(x), block)]
    for number in (0, 1):
        assert np.array_equal(np.concatenate([part[number] for part in parts]), whole[number])


def test_another_process_with_other_threads_makes_the_same_lists(tmp_path: Path) -> None:
    vectors = planted(4000, 1)
    np.save(tmp_path / "vectors.npy", vectors)
    code = f"""
import faiss, numpy as np
faiss.omp_set_num_threads(3)
from pipeline.search.inverted_file import InvertedFile
np.save({str(tmp_path / 'coarse.npy')!r}, InvertedFile(np.load({str(tmp_path / 'vectors.npy')!r}), 60, 5).coarse.vectors)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert np.array_equal(np.load(tmp_path / "coarse.npy"), InvertedFile(vectors, 60, 5).coarse.vectors)
    assert not np.array_equal(np.load(tmp_path / "coarse.npy"), InvertedFile(vectors, 60, 6).coarse.vectors)


def test_the_gate_takes_the_fewest_probes_that_surely_reach_the_bound(every_size: None) -> None:
    vectors, sample = planted(6000, 1), planted(800, 2)
    found = gated(vectors, sample, 8, bound=0.9)
    assert found.probes in approximate.PROBES
    assert [probes for probes, _ in found.tried] == list(approximate.PROBES[: approximate.PROBES.index(found.probes) + 1])
    assert found.recall >= 0.9
    shares = recall(nearest(sample, found.centres(vectors), 8)[0], nearest(sample, vectors, 8)[0])
    assert found.recall == pytest.approx(shares.mean())
    assert json.loads(json.dumps(found.record()))["sample"] == 800


def test_a_bound_that_no_probes_reach_gives_the_exact_search(every_size: None) -> None:
    random = np.random.default_rng(0)
    vectors, sample = unit(random.standard_normal((3000, 64))), unit(random.standard_normal((200, 64)))
    found = gated(vectors, sample, 8, bound=0.99)
    assert found.probes is None
    assert len(found.tried) == len(approximate.PROBES)
    assert isinstance(found.centres(vectors, FlatCentres), FlatCentres)


def test_a_recall_within_the_samples_error_of_the_bound_does_not_pass(every_size: None) -> None:
    vectors, sample = planted(6000, 1), planted(800, 2)
    first = gated(vectors, sample, 8, bound=0.5).recall
    assert gated(vectors, sample, 8, bound=first - 1e-4).probes != approximate.PROBES[0]


def test_few_centres_are_searched_exactly_without_a_trial() -> None:
    assert gated(planted(1000, 1), planted(100, 2), 8) == EXACT
    assert gated(planted(1000, 1), planted(0, 2), 8) == EXACT


def test_labels_by_lists_are_ranked_by_their_exact_cosines() -> None:
    vectors, x = planted(3000, 1), planted(400, 2)
    exact, found = (labelled(x, search.centres(vectors), LabelRule(floor=0.5)) for search in (EXACT, Search(8, 50)))
    assert recall(found.ids, exact.ids).mean() > 0.95
    same = (found.ids == exact.ids).all(axis=1)
    assert same.mean() > 0.7
    assert np.array_equal(found.similarity[same], exact.similarity[same])
    assert np.array_equal(found.weights[same], exact.weights[same])
