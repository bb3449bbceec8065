import io
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.reduce.duplicates.find import Duplicates, Pictures, duplicate_table, find_duplicates
from pipeline.reduce.duplicates.lookalikes import DuplicatePairs, correlations
from schemas.tables import DUPLICATES
from tests.reduce.conftest import Hundreds, Sample, looks


def pictures(n: int, *, seed: int = 0, **columns: Any) -> Pictures:
    """n pictures that are nobody's duplicate, with the given columns instead of theirs."""
    rng = np.random.default_rng(seed)
    unlike = {
        "uid": pa.array([f"u{i}" for i in range(n)]), "sha256": pa.array([f"s{i}" for i in range(n)]),
        "phash": rng.integers(0, 2**63, n, dtype=np.uint64), "thumbnail": rng.integers(0, 256, (n, 768), dtype=np.uint8),
        "pixels": np.full(n, 100), "valid": np.ones(n, bool),
    }
    return Pictures(**(unlike | columns))


def listed(pairs: DuplicatePairs) -> set[tuple[int, int]]:
    return set(zip(pairs.row.tolist(), pairs.of.tolist(), strict=True))


def unordered(pairs: set[tuple[int, int]]) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in pairs}


@pytest.fixture(scope="module")
def found(sample: Sample) -> Duplicates:
    return find_duplicates(sample.pictures)


def test_planted_exact_duplicates_are_the_only_ones(sample: Sample, found: Duplicates) -> None:
    planted = sample.rows_of("exact_duplicate")
    assert len(planted) == 12
    assert unordered(listed(found.exact_pairs)) == unordered(planted)
    assert found.exact.sum() == 12


def test_planted_near_duplicates_are_found_and_few_others_all_listed(sample: Sample, found: Duplicates) -> None:
    planted, pairs = unordered(sample.rows_of("near_duplicate")), unordered(listed(found.near_pairs))
    assert len(planted & pairs) >= 11
    assert len(pairs - planted) <= 15
    assert set(np.flatnonzero(found.near)) == set(found.near_pairs.row[found.near_pairs.removed])


def test_resized_and_recompressed_copies_are_found(sample: Sample) -> None:
    rng = np.random.default_rng(0)
    originals = [row for row, image in enumerate(sample.images) if image]
    copies, sizes = [], []
    for row in originals:
        image, scale, content = sample.images[row], rng.uniform(0.5, 0.8), io.BytesIO()
        assert image is not None
        size = [max(1, round(side * scale)) for side in image.size]
        image.resize(size, Image.Resampling.BICUBIC).save(content, "JPEG", quality=int(rng.integers(45, 81)))
        copies.append(Image.open(content).convert("RGB"))
        sizes.append(size[0] * size[1])
    n = len(originals)
    phash, thumbnail = looks(copies)
    both = pictures(
        2 * n, phash=np.concatenate([sample.pictures.phash[originals], phash]),
        thumbnail=np.concatenate([sample.pictures.thumbnail[originals], thumbnail]),
        pixels=np.concatenate([sample.pictures.pixels[originals], sizes]),
    )
    result = find_duplicates(both)
    assert result.near[n:].mean() >= 0.94


def test_without_near_ones_the_exact_ones_are_the_same_and_no_thumbnail_is_needed(sample: Sample, found: Duplicates) -> None:
    bare = replace(sample.pictures, thumbnail=np.zeros((0, 768), np.uint8))
    exact = find_duplicates(bare, near=False)
    assert listed(exact.exact_pairs) == listed(found.exact_pairs)
    assert np.array_equal(exact.exact, found.exact)
    assert len(exact.near_pairs) == exact.near.sum() == 0


def test_the_row_with_more_pixels_survives_and_then_the_smaller_row_id() -> None:
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 768), dtype=np.uint8), 3, axis=0)
    rows = pictures(3, phash=np.full(3, 7, np.uint64), thumbnail=same, pixels=np.array([10, 20, 20]))
    assert listed(find_duplicates(rows).near_pairs) == {(0, 1), (2, 1)}
    twins = replace(rows, sha256=pa.array(["s", "s", "s"]))
    assert listed(find_duplicates(twins).exact_pairs) == {(0, 1), (2, 1)}
    assert find_duplicates(twins).exact.tolist() == [True, False, True]


def test_a_chain_of_look_alikes_does_not_collapse() -> None:
    hashes = np.array([0b0, 0b111111, 0b111111111111], np.uint64)   # 6 bits from one to the next, 12 from end to end
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 768), dtype=np.uint8), 3, axis=0)
    result = find_duplicates(pictures(3, phash=hashes, thumbnail=same, pixels=np.array([30, 20, 10])))
    assert result.near.tolist() == [False, True, False]
    pairs = result.near_pairs
    assert listed(pairs) == {(1, 0), (2, 1)}
    assert pairs.removed.tolist() == [True, False]


def test_both_bounds_are_inclusive() -> None:
    thumbnail = np.random.default_rng(0).integers(0, 256, (2, 768), dtype=np.uint8)
    thumbnail[1] = thumbnail[0]
    thumbnail[1, :40] = 0
    measured = float(correlations(thumbnail[:1], thumbnail[1:])[0, 0])
    assert measured == pytest.approx(np.asarray(np.corrcoef(thumbnail))[0, 1], abs=1e-12)
    rows = pictures(2, phash=np.array([0, 0xFF], np.uint64), thumbnail=thumbnail)
    assert find_duplicates(rows, radius=8, correlation=measured).near.sum() == 1
    assert find_duplicates(rows, radius=7, correlation=measured).near.sum() == 0
    assert find_duplicates(rows, radius=8, correlation=np.nextafter(measured, 1)).near.sum() == 0


def test_flat_thumbnails_have_no_correlation_and_match_nothing() -> None:
    rows = pictures(50, phash=np.zeros(50, np.uint64), thumbnail=np.full((50, 768), 255, np.uint8))
    with np.errstate(all="raise"):
        result = find_duplicates(rows)
    assert not result.near.any()
    assert len(result.near_pairs) == 0


def test_rows_without_hashes_are_nobodys_duplicate() -> None:
    rows = pictures(3, sha256=pa.array(["s", "s", "s"]), valid=np.array([False, True, False]))
    assert len(find_duplicates(rows).exact_pairs) == 0
    assert len(find_duplicates(replace(rows, valid=np.zeros(3, bool))).near_pairs) == 0


def test_equal_looks_of_a_removed_picture_are_listed_with_what_removed_it() -> None:
    thumbnail = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 768), dtype=np.uint8), 4, axis=0)
    rows = pictures(4, phash=np.array([3, 0, 0, 0], np.uint64), thumbnail=thumbnail, pixels=np.array([9, 5, 5, 5]))
    pairs = find_duplicates(rows).near_pairs
    assert listed(pairs) == {(1, 0), (2, 0), (3, 0)}
    assert pairs.removed.all()
    assert pairs.hamming.tolist() == [2, 2, 2]


def test_a_bucket_of_equal_looks_costs_memory_by_the_row_not_by_the_pair() -> None:
    n = 100_000
    white = np.full((n, 768), 255, np.uint8)
    white[:, 0] = 0
    rows = pictures(n, phash=np.zeros(n, np.uint64), thumbnail=white)
    tracemalloc.start()
    result = find_duplicates(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(result.near_pairs) == result.near.sum() == n - 1
    assert peak < 6 * white.nbytes


def test_a_bucket_of_noisy_copies_lists_one_pair_per_row() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(20, 236, 768)
    noisy = (base + rng.integers(-3, 4, (5000, 768))).astype(np.uint8)
    result = find_duplicates(pictures(5000, phash=np.zeros(5000, np.uint64), thumbnail=noisy))
    assert result.near.sum() == len(result.near_pairs) == 4999


def test_agrees_with_a_plain_greedy_search_whatever_the_blocks() -> None:
    rng = np.random.default_rng(1)
    originals = rng.integers(0, 256, (300, 768))
    of = rng.integers(300, size=900)
    thumbnail = np.clip(originals[of] + rng.normal(0, 12, (900, 768)), 0, 255).astype(np.uint8)
    flips = rng.random((900, 64)) < 0.06
    phash = rng.integers(0, 2**63, 300, dtype=np.uint64)[of] ^ np.packbits(flips, axis=1).view(np.uint64)[:, 0]
    rows = pictures(900, phash=phash, thumbnail=thumbnail, pixels=rng.integers(1, 5, 900))

    alike = (np.bitwise_count(phash[:, None] ^ phash[None]) <= 8) & (np.corrcoef(thumbnail) >= 0.97)
    order = np.argsort(-rows.pixels, kind="stable")
    expected, gone = set(), np.zeros(900, bool)
    for at, row in enumerate(order):
        partners = {(int(row), int(other)) for other in order[:at] if alike[row, other]}
        staying = {pair for pair in partners if not gone[pair[1]]}
        gone[row] = bool(staying)
        expected |= staying or partners
    result = find_duplicates(rows)
    assert 0 < gone.sum() < 900
    assert np.array_equal(result.near, gone)
    assert listed(result.near_pairs) == expected
    assert not result.near_pairs.removed.all()


def test_the_table_gives_row_ids_kinds_and_cosines(sample: Sample, found: Duplicates, ids: Hundreds) -> None:
    n = len(sample.keys)
    vectors = np.zeros((n, 4), np.float16)
    vectors[:, 0] = 1
    vectors[found.near_pairs.row[0]] = [0.6, 0.8, 0, 0]
    vectors[found.exact_pairs.row[0]] = 0
    pictures_with_vectors = replace(sample.pictures, embedding=vectors.__getitem__)
    rows = duplicate_table(found, pictures_with_vectors, ids)
    assert rows.schema.equals(DUPLICATES)
    assert rows.equals(duplicate_table(find_duplicates(sample.pictures), pictures_with_vectors, ids))
    place = [int(one["shard_id"][5:]) * 100 + one["row"] for one in rows.to_pylist()]
    assert place == sorted(place)
    assert rows.column("uid").to_pylist() == [sample.pictures.uid[row].as_py() for row in place]
    by_row = dict(zip(place, rows.to_pylist(), strict=True))
    assert by_row[found.near_pairs.row[0]]["cosine"] == pytest.approx(0.6, abs=1e-3)
    assert by_row[found.exact_pairs.row[0]]["cosine"] is None
    kinds = dict(zip(place, rows.column("kind").to_pylist(), strict=True))
    for row, of in listed(found.exact_pairs):
        assert kinds[row] == ("uid" if sample.captions[row] == sample.captions[of] else "sha256")
    assert set(kinds.values()) == {"uid", "sha256", "near"}


def test_without_embeddings_the_cosine_is_null(sample: Sample, found: Duplicates, ids: Hundreds) -> None:
    cosines = duplicate_table(found, sample.pictures, ids).column("cosine")
    assert cosines.null_count == len(found.exact_pairs) + len(found.near_pairs)
