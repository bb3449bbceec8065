import io
import tracemalloc
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.distributed.local import LocalExecutor
from pipeline.passes.duplicates import alike
from pipeline.passes.duplicates.write import write_pairs
from pipeline.reduce.duplicates.lookalikes import DuplicatePairs, correlations, paired_correlations
from pipeline.reduce.duplicates.sketches import may_correlate, sketches
from pipeline.store.blocks.groups import Grouped
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import read_table
from schemas.tables import DUPLICATES
from tests.duplicates import TABLE, cut_of, driver_of, pairs_table, same_pairs, searched, written
from tests.reduce.conftest import Sample, looks
from tests.reduce.duplicates_before import Duplicates, Pictures
from tests.reduce.duplicates_before import find_duplicates as found_before


def find_duplicates(pictures: Pictures, *, radius: int = 8, correlation: float = 0.97, near: bool = True) -> Duplicates:
    """By the passes, over a root with these pictures, which also say what was said before."""
    with TemporaryDirectory() as folder:
        table = pairs_table(pictures, Path(folder), radius=radius, correlation=correlation, near=near)
    found, before = searched(table, pictures), found_before(pictures, radius=radius, correlation=correlation, near=near)
    assert same_pairs(found.exact_pairs, before.exact_pairs)
    assert same_pairs(found.near_pairs, before.near_pairs)
    return found

SPREAD = 0x9E3779B97F4A7C15


def pictures(n: int, *, seed: int = 0, **columns: Any) -> Pictures:
    """n pictures that are nobody's duplicate, with the given columns instead of theirs."""
    rng = np.random.default_rng(seed)
    unlike = {
        "uid": pa.array([f"{i:032x}" for i in range(n)]),
        "sha256": pa.array([f"{i * SPREAD % 2**64:064x}"[::-1] for i in range(n)]),
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
    twins = replace(rows, sha256=pa.array(["5" * 64] * 3))
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
    rows = pictures(3, sha256=pa.array(["5" * 64] * 3), valid=np.array([False, True, False]))
    assert len(find_duplicates(rows).exact_pairs) == 0
    assert len(find_duplicates(replace(rows, valid=np.zeros(3, bool))).near_pairs) == 0


def test_equal_looks_of_a_removed_picture_are_listed_with_what_removed_it() -> None:
    thumbnail = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 768), dtype=np.uint8), 4, axis=0)
    rows = pictures(4, phash=np.array([3, 0, 0, 0], np.uint64), thumbnail=thumbnail, pixels=np.array([9, 5, 5, 5]))
    pairs = find_duplicates(rows).near_pairs
    assert listed(pairs) == {(1, 0), (2, 0), (3, 0)}
    assert pairs.removed.all()
    assert pairs.hamming.tolist() == [2, 2, 2]


def test_a_bucket_of_equal_looks_costs_memory_by_the_row_not_by_the_pair(tmp_path: Path) -> None:
    n = 20_000
    white = np.full((n, 768), 255, np.uint8)
    white[:, 0] = 0
    rows = pictures(n, phash=np.zeros(n, np.uint64), thumbnail=white)
    store = Store(str(tmp_path))
    run = written(rows, store, [n])
    tracemalloc.start()
    write_pairs(cut_of(run), run, driver_of(store), TABLE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    result = searched(read_table(store, TABLE), rows)
    assert len(result.near_pairs) == result.near.sum() == n - 1
    assert peak < 6 * white.nbytes


def test_a_bucket_of_noisy_copies_lists_one_pair_per_row() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(20, 236, 768)
    noisy = (base + rng.integers(-3, 4, (3000, 768))).astype(np.uint8)
    result = find_duplicates(pictures(3000, phash=np.zeros(3000, np.uint64), thumbnail=noisy))
    assert result.near.sum() == len(result.near_pairs) == 2999


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


def test_the_table_gives_row_ids_kinds_and_cosines(sample: Sample, found: Duplicates, tmp_path: Path) -> None:
    n, sizes = len(sample.keys), [300, 500, 28]
    vectors = np.zeros((n, 4), np.float16)
    vectors[:, 0] = 1
    vectors[found.near_pairs.row[0]] = [0.6, 0.8, 0, 0]
    vectors[found.exact_pairs.row[0]] = 0
    rows = pairs_table(sample.pictures, tmp_path, sizes, vectors, size=200, group_rows=500)
    assert rows.schema.remove_metadata().equals(DUPLICATES.remove_metadata())
    assert same_pairs(searched(rows, sample.pictures, sizes).near_pairs, found.near_pairs)
    starts = {"shard0": 0, "shard1": 300, "shard2": 800}
    place = [starts[one["shard_id"]] + one["row"] for one in rows.to_pylist()]
    assert place == sorted(place)
    assert rows.column("uid").to_pylist() == [sample.pictures.uid[row].as_py() for row in place]
    by_row = dict(zip(place, rows.to_pylist(), strict=True))
    assert by_row[found.near_pairs.row[0]]["cosine"] == pytest.approx(0.6, abs=1e-3)
    assert by_row[found.exact_pairs.row[0]]["cosine"] is None
    kinds = dict(zip(place, rows.column("kind").to_pylist(), strict=True))
    for row, of in listed(found.exact_pairs):
        assert kinds[row] == ("uid" if sample.captions[row] == sample.captions[of] else "sha256")
    assert set(kinds.values()) == {"uid", "sha256", "near"}


def crowd(n: int, kinds: int, seed: int) -> Pictures:
    """Noisy copies of a few pictures, of which some are equal in looks, some in bytes, and some plain."""
    rng = np.random.default_rng(seed)
    of = rng.integers(kinds, size=n)
    thumbnail = np.clip(rng.integers(0, 256, (kinds, 768))[of] + rng.normal(0, 12, (n, 768)), 0, 255).astype(np.uint8)
    flips = np.packbits(rng.random((n, 64)) < 0.06, axis=1).view(np.uint64)[:, 0]
    phash = rng.integers(0, 2**63, kinds, dtype=np.uint64)[of] ^ flips
    bare = pictures(n)
    sha256 = np.array(bare.sha256.to_pylist())
    copies, originals, plain = rng.integers(n // 2, size=n // 5), rng.integers(n // 2, n, n // 5), rng.integers(n, size=n // 20)
    thumbnail[plain] = rng.integers(0, 256, (len(plain), 1))
    for copy, original in zip(copies.tolist(), originals.tolist(), strict=True):
        thumbnail[copy], phash[copy] = thumbnail[original], phash[original]
        if copy % 2:
            sha256[copy] = sha256[original]
    return replace(bare, phash=phash, thumbnail=thumbnail, sha256=pa.array(sha256), pixels=rng.integers(1, 5, n),
                   valid=rng.random(n) < 0.97)


@pytest.mark.parametrize(("kinds", "most"), [(40, 256), (40, 5), (2, 256)])
def test_pairs_are_those_of_a_search_in_one_process_however_the_run_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: int, most: int
) -> None:
    monkeypatch.setattr(alike, "CROWD", most)
    rows, sizes = crowd(1200, kinds, kinds), [500, 200, 500]
    expected = found_before(rows)
    tables = [pairs_table(rows, tmp_path / str(number), sizes, size=size, group_rows=group_rows)
              for number, (size, group_rows) in enumerate([(300, 500), (2000, 2000)])]
    assert tables[0].equals(tables[1])
    found = searched(tables[0], rows, sizes)
    assert len(expected.near_pairs) > 200
    assert not expected.near_pairs.removed.all()
    assert same_pairs(found.near_pairs, expected.near_pairs)
    assert same_pairs(found.exact_pairs, expected.exact_pairs)


def test_a_radius_too_wide_for_bands_finds_the_same(tmp_path: Path) -> None:
    rows = crowd(600, 5, 1)
    assert same_pairs(searched(pairs_table(rows, tmp_path, radius=30, size=200), rows).near_pairs,
                      found_before(rows, radius=30).near_pairs)


class Killed(Exception):
    """What a kill is to a run in this process."""


def test_a_search_that_was_killed_at_any_item_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sizes = crowd(600, 20, 3), [300, 300]
    pairs_table(rows, tmp_path / "whole", sizes, size=300, group_rows=300)
    store = Store(str(tmp_path / "killed"))
    run = written(rows, store, sizes)
    of = replace(cut_of(run), size=300, group_rows=300)
    done: list[str] = []

    def killed_later(self: LocalExecutor, work: Any, items: Any) -> Any:
        for outcome in plain(self, work, items):
            asked = work.work.work if isinstance(work.work, Grouped) else work.work
            name = f"{type(asked).__name__} {work.name(outcome.item)}"
            assert name not in done
            done.append(name)
            yield outcome
            raise Killed

    plain = LocalExecutor.run
    monkeypatch.setattr(LocalExecutor, "run", killed_later)
    for _ in range(100):
        try:
            write_pairs(of, run, driver_of(store), TABLE)
        except Killed:
            continue
        break
    steps = {"Scatter": 2, "Equal": 2, "Thumbnails": 2, "Decide": 1, "PairsOfGroup": 2}
    assert {step: sum(name.startswith(step) for name in done) for step in steps} == steps
    assert sum(name.startswith("Alike") for name in done) == 18   # nine bands, of which each has a part and its neighbour
    assert store.read(TABLE) == Store(str(tmp_path / "whole")).read(TABLE)
    assert not store.folders(f"{PARTIAL}")


def test_sketches_lose_no_pair_that_correlates_and_most_of_the_others() -> None:
    rng = np.random.default_rng(0)
    first, noise = (rng.normal(0, 30, (500, 2, 2, 3)).repeat(8, axis=1).repeat(8, axis=2).reshape(500, 768) for _ in range(2))
    second = first + noise * rng.uniform(0, 1, (500, 1))
    one, other = np.clip(128 + first, 0, 255).astype(np.uint8), np.clip(128 + second, 0, 255).astype(np.uint8)
    for bound in (0.9, 0.97, 0.999, 1.0):
        value = paired_correlations(one, other)
        may = may_correlate(sketches(one), sketches(other), bound)
        assert may[value >= bound].all()
        assert may_correlate(sketches(one), sketches(one), 1.0).all()
    assert may_correlate(sketches(one[:-1]), sketches(one[1:]), 0.97).mean() < 0.01


def test_correlations_of_pairs_have_the_bits_of_those_of_all_with_all() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (60, 768), dtype=np.uint8)
    one, other = thumbnails[:30], thumbnails[30:]
    assert np.array_equal(paired_correlations(one, other), correlations(one, other).diagonal())
