import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.captions.normal import normalised
from pipeline.draws import sampled
from pipeline.entities import calibration as entities
from pipeline.entities.aliases import AliasIndex
from pipeline.entities.calibration import Settings
from pipeline.entities.counts import Frequent
from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.entities.known_texts import stored_vectors
from pipeline.entities.linking import first_of_best, link, mentions_of, standardised
from pipeline.entities.table import EntityTable
from pipeline.errors import InputError
from pipeline.passes.entities import mentioned_aliases
from pipeline.stages.mentions import alias_mentions
from pipeline.store.store import Store
from pipeline.store.tables import write_table
from pipeline.vectors import Floats, Ints
from schemas.columns import ENTITIES, MENTIONS
from tests.reduce.conftest import Sample
from tests.samples import wordnet as bundled_wordnet

SEEDS = (0, 1, 2, 3)
LIST = MENTIONS.field("mentions").type


@pytest.fixture(scope="module")
def knowledge() -> tuple[KnowledgeBase, AliasIndex]:
    return bundled_wordnet()


@pytest.fixture(scope="module")
def encode(sample_folder: Path) -> Callable[..., np.ndarray]:
    import open_clip
    import torch

    folder = f"local-dir:{sample_folder.parent / 'model'}"
    model, tokenize = open_clip.create_model(folder), open_clip.get_tokenizer(folder)
    model.eval()
    seen: dict[str, Floats] = {}

    def unit_rows(texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in seen]
        with torch.inference_mode():
            for at in range(0, len(new), 256):
                part = new[at : at + 256]
                seen.update(zip(part, model.encode_text(tokenize(part), normalize=True).numpy(), strict=True))
        return np.stack([seen[text] for text in texts])

    return unit_rows


@pytest.fixture(scope="module")
def images(sample: Sample, embeddings: np.ndarray) -> np.ndarray:
    """float16 [828, d], zero rows for pictures that cannot be read."""
    out = np.zeros((len(sample.keys), embeddings.shape[1]), np.float16)
    out[sample.readable] = embeddings
    return out


@pytest.fixture(scope="module")
def column(sample: Sample, knowledge: tuple[KnowledgeBase, AliasIndex]) -> pa.Array:
    return pa.array([alias_mentions(knowledge[1], normalised(caption)) for caption in sample.captions], LIST)


@pytest.fixture(scope="module")
def calibrated(
    sample: Sample, knowledge: tuple[KnowledgeBase, AliasIndex], encode: Callable[..., np.ndarray], images: np.ndarray,
    column: pa.Array,
) -> Callable[..., EntityTable]:
    def table(seed: int, rate: float = 0.05) -> EntityTable:
        background = images[sampled(np.flatnonzero(sample.readable), 128, seed)]
        table = entities.entity_table(*knowledge, mentioned_aliases(pa.chunked_array([column])), encode, background)
        mentions = mentions_of(column, sample.readable)
        return entities.with_threshold(table, mentions, images, Settings(false_positive_rate=rate, seed=seed))

    return table


def rows_labelled(sample: Sample, label: str) -> Ints:
    return np.flatnonzero([truth["label"] == label for truth in sample.truth] & sample.readable)


def z_by_row(table: EntityTable, column: pa.Array, rows: Ints, images: np.ndarray, of: Ints | None = None) -> tuple[Floats, Ints]:
    """For each of the rows the z of its mentions, with the images of other rows (`of`) if given."""
    mentions = mentions_of(column.take(pa.array(rows)), np.ones(len(rows), bool))
    links = link(table, mentions, images[rows if of is None else of])
    return links.z, mentions.images[links.mentions]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_nominal_false_positive_rate_holds_on_pairs_that_calibration_never_saw(
    sample: Sample, calibrated: Callable[..., EntityTable], column: pa.Array, images: np.ndarray, seed: int,
) -> None:
    table = calibrated(seed)
    clean = rows_labelled(sample, "clean")
    z, _ = z_by_row(table, column, clean, images)
    assert (z >= table.threshold).mean() >= 0.33
    for shuffle in SEEDS:
        wrong, _ = z_by_row(table, column, clean, images, clean[entities.deranged(len(clean), 1000 + shuffle)])
        assert (wrong >= table.threshold).mean() <= 0.07


@pytest.mark.parametrize("seed", SEEDS)
def test_confirmed_entities_tell_clean_pairs_from_swapped_ones(
    sample: Sample, calibrated: Callable[..., EntityTable], column: pa.Array, images: np.ndarray, seed: int,
) -> None:
    table = calibrated(seed)

    def share(label: str) -> float:
        rows = rows_labelled(sample, label)
        z, row = z_by_row(table, column, rows, images)
        return len(np.unique(row[z >= table.threshold])) / len(rows)

    assert share("clean") >= 0.33
    assert share("swapped") <= 0.12


def test_a_smaller_rate_gives_a_higher_threshold_and_the_facts_say_how_it_was_found(calibrated: Callable[..., EntityTable]) -> None:
    loose, strict = calibrated(0), calibrated(0, 0.01)
    assert loose.threshold < strict.threshold
    assert loose.facts["null"] == "shuffled pairs"
    assert loose.facts["null_mentions"] > 8_000
    assert strict.facts["confirmed_share"] < loose.facts["confirmed_share"]


def test_too_few_pairs_fall_back_to_the_normal_quantile(
    calibrated: Callable[..., EntityTable], column: pa.Array, images: np.ndarray, sample: Sample,
) -> None:
    few = mentions_of(column.slice(0, 2), sample.readable[:2])
    table = entities.with_threshold(calibrated(0), few, images, Settings())
    assert table.threshold == pytest.approx(1.6449, abs=1e-4)
    assert table.facts["null"] == "normal"
    none = mentions_of(column.slice(0, 0), sample.readable[:0])
    assert entities.with_threshold(calibrated(0), none, images, Settings()).facts["confirmed_share"] is None


def test_senses_are_chosen_by_image_prior_and_domain(
    knowledge: tuple[KnowledgeBase, AliasIndex], encode: Callable[..., np.ndarray], images: np.ndarray, sample: Sample,
) -> None:
    base, index = knowledge
    texts = ["mouse", "a mouse", "the flag"]
    column = pa.array([alias_mentions(index, text) for text in texts], LIST)
    background = images[sampled(np.flatnonzero(sample.readable), 128, 0)]
    table = entities.entity_table(base, index, mentioned_aliases(pa.chunked_array([column])), encode, background)
    ids = np.array(table.ids)
    rodent, device = (encode([entities.choosing_text(base, base.row_of[id])])[0] for id in ("n02330245", "n03793489"))
    flag = images[np.flatnonzero(sample.readable)[0]]
    links = link(table, mentions_of(column, np.ones(3, bool)), np.stack([rodent, device, flag]).astype(np.float16))
    assert list(ids[links.entities]) == ["n02330245", "n03793489", "n03354903"]


def test_ties_go_to_the_first_sense_of_each_mention() -> None:
    score = np.array([1, 3, 3, 2, 5, 5], np.float32)
    assert list(first_of_best(score, np.array([4, 2]))) == [1, 4]


def test_a_saved_table_links_as_before_and_the_same_table_gives_the_same_bytes(
    calibrated: Callable[..., EntityTable], column: pa.Array, images: np.ndarray, sample: Sample, tmp_path: Path,
) -> None:
    table, store = calibrated(0), Store(str(tmp_path))
    table.save(store, "tables/calibration@1")
    table.save(store, "tables/calibration@2")
    loaded = EntityTable.load(store, "tables/calibration@1")
    mentions = mentions_of(column, sample.readable)
    before, after = link(table, mentions, images), link(loaded, mentions, images)
    assert np.array_equal(before.z, after.z)
    assert np.array_equal(before.entities, after.entities)
    assert (loaded.threshold, loaded.names, dict(loaded.facts)) == (table.threshold, table.names, dict(table.facts))
    for name in store.names("tables/calibration@1"):
        assert store.read(f"tables/calibration@1/{name}") == store.read(f"tables/calibration@2/{name}")


def test_a_folder_without_a_whole_table_is_a_clear_error(calibrated: Callable[..., EntityTable], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    calibrated(0).save(store, "t")
    store.remove("t/calibration.json")
    with pytest.raises(InputError, match=r"calibration\.json is missing"):
        EntityTable.load(store, "t")


def test_linking_does_not_depend_on_the_batches(
    calibrated: Callable[..., EntityTable], column: pa.Array, images: np.ndarray, sample: Sample,
) -> None:
    table = calibrated(0)
    whole = link(table, mentions_of(column, sample.readable), images)
    parts = [
        link(table, mentions_of(column.slice(at, 64), sample.readable[at : at + 64]), images[at : at + 64])
        for at in range(0, len(column), 64)
    ]
    assert np.array_equal(whole.z, np.concatenate([part.z for part in parts]))
    assert np.array_equal(whole.entities, np.concatenate([part.entities for part in parts]))


def test_a_derangement_moves_everything() -> None:
    for count in (2, 3, 100):
        moved = entities.deranged(count, 7)
        assert sorted(moved) == list(range(count))
        assert not (moved == np.arange(count)).any()


def found(*rows: Sequence[tuple[str, float, bool]] | None) -> pa.Array:
    """An `entities` column: rows of (id, z, confirmed), or None."""
    return pa.array([
        None if row is None else [
            {"id": id, "name": id.upper(), "start": 0, "end": 1, "link_score": 0.0, "z": z, "confirmed": confirmed}
            for id, z, confirmed in row
        ] for row in rows
    ], ENTITIES.field("entities").type)


def counted(shards: list[pa.Array]) -> pa.Table:
    """Counts over shards, each of which is a part by itself; the same as of one part."""
    counts = entities.entity_counts([entities.entity_sums([shard]) for shard in shards])
    assert counts.equals(entities.entity_counts([entities.entity_sums(shards)]))
    return counts


def test_counts_are_of_samples_with_the_entity_confirmed() -> None:
    first = found([("a", 3.0, True), ("a", 2.0, True), ("b", 1.0, False)], None, [])
    second = found([("b", 2.0, True), ("a", 1.0, True)])
    counts = counted([first, second])
    assert counts.to_pylist() == [
        {"id": "a", "name": "A", "count": 2, "mean_z": 2.0}, {"id": "b", "name": "B", "count": 1, "mean_z": 2.0}]
    assert counts.equals(counted([second, first]))


def test_an_entity_in_exactly_as_many_samples_as_are_asked_for_is_frequent(tmp_path: Path) -> None:
    """AT-4: 4, 5 and 6 samples, spread over shards; mentions in one sample count once, unconfirmed ones not at all."""
    wanted = {"four": 4, "five": 5, "six": 6}
    rows = [[(id, 2.0, True), (id, 1.0, True)] for id, count in wanted.items() for _ in range(count)]
    shards = [found(*rows[::2], [("four", 1.0, False)]), found(*rows[1::2], None)]
    counts = counted(shards)
    assert dict(zip(counts["id"].to_pylist(), counts["count"].to_pylist(), strict=True)) == wanted
    store = Store(str(tmp_path))
    write_table(store, "counts.parquet", counts, {})
    kept = {least: Frequent(store, "counts.parquet", least).ids() for least in (1, 4, 5, 6, 7)}
    assert kept == {1: {*wanted}, 4: {*wanted}, 5: {"five", "six"}, 6: {"six"}, 7: set()}


STANDARDISED = """
import hashlib, numpy as np
from pipeline.entities.calibration import _texts
rng = np.random.default_rng(0)
vectors, images = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.normal(size=(2, 900, 256)))
found = _texts(vectors.astype(np.float32), images.astype(np.float16))
print(hashlib.sha256(found.mean.tobytes() + found.std.tobytes()).hexdigest())
"""


def test_the_number_of_threads_of_the_process_changes_no_bit() -> None:
    """`ray submit` runs the driver with one thread, a laptop with all of them."""
    found = {
        subprocess.run([sys.executable, "-c", STANDARDISED], capture_output=True, text=True, check=True,
                       env={**os.environ, "OMP_NUM_THREADS": threads}).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1


def test_the_threshold_is_infinite_until_it_is_calibrated(
    calibrated: Callable[..., EntityTable], knowledge: tuple[KnowledgeBase, AliasIndex], encode: Callable[..., np.ndarray],
    images: np.ndarray, column: pa.Array, sample: Sample,
) -> None:
    background = images[:128]
    bare = entities.entity_table(*knowledge, mentioned_aliases(pa.chunked_array([column.slice(0, 20)])), encode, background)
    assert bare.threshold == float("inf")
    assert replace(bare, threshold=1.0).threshold == 1.0


def test_z_of_the_background_images_has_mean_zero_and_deviation_one(
    knowledge: tuple[KnowledgeBase, AliasIndex], encode: Callable[..., np.ndarray], images: np.ndarray, column: pa.Array,
    sample: Sample,
) -> None:
    background = images[sampled(np.flatnonzero(sample.readable), 128, 0)]
    table = entities.entity_table(*knowledge, mentioned_aliases(pa.chunked_array([column.slice(0, 40)])), encode, background)
    every = np.repeat(np.arange(len(table.ids), dtype=np.int32), 128)
    for texts in (table.choosing, table.confirming):
        z = standardised(texts, every, background, np.tile(np.arange(128), len(table.ids))).reshape(-1, 128)
        assert np.allclose(z.mean(axis=1), 0, atol=1e-4)
        assert np.allclose(z.std(axis=1), 1, atol=1e-4)


def test_an_entity_of_another_table_of_the_root_is_not_embedded_again_and_has_the_same_bits(
    knowledge: tuple[KnowledgeBase, AliasIndex], encode: Callable[..., np.ndarray], images: np.ndarray, column: pa.Array,
    tmp_path: Path,
) -> None:
    """Unless its vectors followed from something else, or its files are not what was written."""
    asked: list[int] = []

    def counted(texts: Sequence[str]) -> Floats:
        asked.append(len(texts))
        return encode(texts) if texts else np.zeros((0, images.shape[1]), np.float32)

    def table(rows: slice, *folders: str) -> EntityTable:
        aliases, known = mentioned_aliases(pa.chunked_array([column[rows]])), partial(stored_vectors, store, folders, "of a model")
        return entities.entity_table(*knowledge, aliases, counted, images[:128], known)

    store = Store(str(tmp_path))
    replace(table(slice(0, 20)), texts="of a model").save(store, "a")
    replace(table(slice(10, 30)), texts="of a model").save(store, "b")
    table(slice(20, 40)).save(store, "c")
    alone = table(slice(0, 40))
    known = table(slice(0, 40), "none", "a", "b", "c")
    assert 0 < asked[-1] < asked[-2]
    for texts, others in ((known.choosing, alone.choosing), (known.confirming, alone.confirming)):
        assert texts.embeddings.tobytes() == others.embeddings.tobytes()
        assert texts.mean.tobytes() == others.mean.tobytes()
    table(slice(0, 20), "a")
    assert asked[-1] == 0
    (tmp_path / "a" / "choosing.npy").write_bytes(bytes(9))
    (tmp_path / "b" / "calibration.json").write_text("[]")
    table(slice(0, 40), "a", "b", "c")
    assert asked[-1] == asked[3]


@pytest.mark.parametrize("texts", [[], ["a dog"]])
def test_a_run_without_mentions_or_without_images_has_a_table_that_links_nothing(
    knowledge: tuple[KnowledgeBase, AliasIndex], encode: Callable[..., np.ndarray], tmp_path: Path, texts: Sequence[str],
) -> None:
    base, index = knowledge
    column = pa.array([alias_mentions(index, text) for text in texts], LIST)

    def encode_any(texts: Sequence[str]) -> Floats:
        return encode(texts) if texts else np.zeros((0, 256), np.float32)

    aliases = mentioned_aliases(pa.chunked_array([column]))
    table = entities.entity_table(base, index, aliases, encode_any, np.zeros((0, 0), np.float16))
    nothing = mentions_of(column, np.zeros(len(texts), bool))
    entities.with_threshold(table, nothing, np.zeros((0, 0), np.float16), Settings()).save(Store(str(tmp_path)), "t")
    loaded = EntityTable.load(Store(str(tmp_path)), "t")
    assert bool(loaded.ids) == bool(texts)
    assert loaded.facts["null"] == "normal"
    assert len(link(loaded, nothing, np.zeros((0, 256), np.float16)).z) == 0
