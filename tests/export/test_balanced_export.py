"""Exports balanced over the classes: what is drawn, how often, and that the files keep the promise."""

import gzip
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit.gc import collect
from pipeline.audit.verify import verify
from pipeline.cli import printing
from pipeline.columns import RunShard
from pipeline.draws import draws
from pipeline.errors import RecipeError
from pipeline.export import cuts
from pipeline.export.allocation import allocate
from pipeline.passes.balance import CUTS, ranked
from pipeline.queries.status import status
from pipeline.recipe.recipe import load
from pipeline.reduce.classes import taxonomy
from pipeline.root.existing import open_root
from pipeline.root.lifecycle import Result
from pipeline.store.store import Store
from pipeline.vectors import Ints
from tests.answers import checked
from tests.audit.test_deep import flipped, rewritten
from tests.curations import curated
from tests.damage import clean_pairs
from tests.manifests import repair
from tests.reduce.balanced import Tree, copies, sample
from tests.roots import counted, hashes

CLASSES = ("classes.k=12", "classes.levels=[5, 2]", "export.shard_size=40")
REPEATED = ("export.balance=150", "export.multiplier=3")


@pytest.fixture(scope="module")
def inputs(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar that is read in place, a compressed one, a parquet file: a sample may be taken twice from each. Beside them a small
    knowledge base: entities do not matter here."""
    folder = tmp_path_factory.mktemp("inputs") / "in"
    folder.mkdir()
    words = pq.read_table(sample_folder.parent / "wordnet" / "wordnet_nouns.parquet")
    pq.write_table(words.take(np.arange(0, len(words), 20)), folder.parent / "words.parquet")
    shutil.copy(sample_folder / "00000.tar", folder)
    (folder / "00001.tar.gz").write_bytes(gzip.compress((sample_folder / "00001.tar").read_bytes(), 1, mtime=0))
    rows = [{"image": image, "caption": caption.decode()} for image, caption in list(clean_pairs(sample_folder).values())[-12:]]
    pq.write_table(pa.Table.from_pylist(rows), folder / "00002.parquet", row_group_size=5)
    return folder


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished") / "root"
    balanced(root, inputs)
    return root


def balanced(root: Path, inputs: Path, *wishes: str, classes: tuple[str, ...] = CLASSES) -> Result:
    return curated(root, [inputs], (*classes, f"entities.knowledge_base={inputs.parent / 'words.parquet'}", *wishes))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(finished, copy, symlinks=True)
    return copy


def exported(root: Path) -> tuple[Counter[tuple[str, int]], Counter[int]]:
    """(shard id, row) of every exported sample, and the counts of the classes of their first labels."""
    tables = [pq.read_table(path) for path in sorted((root / "shards").glob("*.parquet"))]
    rows = [(row["source_shard_id"], row["source_row"]) for table in tables for row in table.to_pylist()]
    return Counter(rows), Counter(labels[0] for table in tables for labels in table.column("labels").to_pylist())


def population(root: Path) -> tuple[list[tuple[str, int]], Tree]:
    """The kept samples: their row ids, and the tree of classes over them."""
    plan = open_root(str(root))
    assert plan.centroids is not None
    assert plan.labels is not None
    levels = taxonomy.read_levels(plan.root, plan.centroids)
    rows, uids, first, cosine = [], [], [], []
    for shard in plan.shards:
        table = pq.read_table(root / plan.labels / f"{shard.shard_id}.parquet")
        vectors = np.load(root / plan.columns.folders["clip"] / f"{shard.shard_id}.image_embedding.npy").astype(np.float64)
        for row, (uid, labels) in enumerate(zip(table.column("uid").to_pylist(), table.column("labels").to_pylist(), strict=True)):
            if labels is not None:
                place = levels[0].ids.tolist().index(labels[0])
                centroid = levels[0].centroids[place]
                rows.append((shard.shard_id, row))
                uids.append(uid)
                first.append(place)
                cosine.append(vectors[row] @ centroid / np.linalg.norm(vectors[row]))
    parents = [
        np.array([above.ids.tolist().index(parent) for parent in below.parents], np.int32)
        for below, above in pairwise(levels) if below.parents is not None
    ]
    keys = np.array([int(uid[:16], 16) for uid in uids], np.uint64)
    return rows, Tree(np.array(first, np.int32), parents, np.array(cosine, np.float32), keys)


@pytest.mark.parametrize(("order", "target", "multiplier"), [("random", 60, 1), ("closest", 61, 1), ("random", 150, 3)])
def test_the_export_is_the_balanced_sample_of_the_kept_samples(
    root: Path, inputs: Path, order: str, target: int, multiplier: int,
) -> None:
    """Against the sampler that sees all rows at once."""
    wish = (f"export.balance={target}", f"export.multiplier={multiplier}", f"export.balance_order={order}")
    balanced(root, inputs, *wish)
    rows, tree = population(root)
    expected = sample(tree, target, seed=0, multiplier=multiplier, order=order)
    assert exported(root)[0] == Counter(rows[i] for i in expected.tolist())
    found = counted(root, deep=True)
    assert (found.faults, found.compared, found.kept) == ((), target, len(rows))


def divergence(counts: Mapping[int, int], k: int) -> float:
    """KL of a class distribution from the uniform one, nats."""
    share = np.array(list(counts.values())) / sum(counts.values())
    return float(np.sum(share * np.log(share * k)))


def test_classes_become_more_even_and_repeats_make_them_more_so(root: Path, finished: Path, inputs: Path) -> None:
    plan = open_root(str(finished))
    assert plan.centroids is not None
    k = len(taxonomy.read_levels(plan.root, plan.centroids)[0].ids)
    _, before = exported(finished)
    balanced(root, inputs, "export.balance=120", classes=CLASSES[:1])
    _, even = exported(root)
    balanced(root, inputs, "export.balance=120", "export.multiplier=4", classes=CLASSES[:1])
    rows, repeated = exported(root)
    assert divergence(repeated, k) < divergence(even, k) < divergence(before, k) / 3
    assert max(repeated.values()) - min(repeated.values()) <= 1
    assert 1 < max(rows.values()) <= 4


def test_repeats_are_bounded_spread_over_the_class_and_written_under_keys_of_their_own(
    root: Path, inputs: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    done = balanced(root, inputs, *REPEATED)
    rows, _ = exported(root)
    assert (rows.total(), max(rows.values())) == (150, 3)
    plan = open_root(str(root))
    assert plan.balance is not None
    cut = np.load(root / plan.balance / CUTS)
    taken = {path.stem: pq.read_table(path) for path in (root / plan.balance).glob("*.parquet")}
    times = np.concatenate([table.column("copies").to_numpy() for table in taken.values()])
    assert times.sum() == cut["taken"].sum() == 150
    order, tree = population(root)
    for place in range(len(cut)):
        mine = [rows[row] for row, first in zip(order, tree.classes, strict=True) if first == place]
        assert (len(mine), sum(mine)) == (cut[place]["samples"], cut[place]["taken"])
        assert max(mine) - min(mine) <= 1
    names: Counter[str] = Counter()
    for path in (root / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            names.update(tar.getnames())
    assert len(names) == names.total() == 3 * 150
    meta = json.loads((root / "shards" / "meta.json").read_text())
    assert (meta["left_out"], meta["repeats"]) == (done.ledger.kept - len(rows), 150 - len(rows))
    assert meta["output_count"] == done.ledger.kept - meta["left_out"] + meta["repeats"]
    found = status(str(root))
    account = {name: meta[name] for name in ("output_count", "left_out", "repeats")}
    assert checked("status", printing.as_json(found))["balance"] == account
    printing.status(found)
    says = capsys.readouterr().out
    assert f"balanced over the classes: {meta['left_out']} of the kept are left out, {meta['repeats']} are repeats" in says
    assert "pass balance" in says


def test_where_there_are_fewer_samples_all_are_taken_as_often_as_may_be(root: Path, inputs: Path) -> None:
    done = balanced(root, inputs, "export.balance=100000", "export.multiplier=2")
    rows, _ = exported(root)
    assert set(rows.values()) == {2}
    assert len(rows) == done.ledger.kept
    assert verify(str(root)).faults == ()


def test_files_that_were_lost_are_made_again_the_same(root: Path, inputs: Path) -> None:
    balanced(root, inputs, *REPEATED)
    whole = hashes(root)
    plan = open_root(str(root))
    for pattern in (f"{plan.balance}/*.parquet", f"{plan.balance}/{CUTS}", f"{plan.export}/000001.tar"):
        path = sorted(root.glob(pattern))[-1]
        path.unlink()
        assert any(path.name in fault for fault in verify(str(root)).faults)
        assert not balanced(root, inputs, *REPEATED).finished_before
        assert hashes(root) == whole
    assert verify(str(root)).faults == ()


def test_verify_finds_a_copy_that_is_missing_and_one_too_many_although_all_hashes_fit(root: Path, inputs: Path) -> None:
    balanced(root, inputs, *REPEATED)
    balance = open_root(str(root)).balance
    assert balance is not None
    path = max((root / balance).glob("*.parquet"), key=lambda path: path.stat().st_size)
    table, said = pq.read_table(path), path.relative_to(root).as_posix()
    times = table.column("copies").to_numpy().copy()
    more, less = np.flatnonzero(times == 1)[0], np.flatnonzero(times == 2)[0]
    times[more], times[less] = 2, 1
    pq.write_table(table.set_column(1, "copies", pa.array(times)), path)
    repair(Store(str(root)), said)
    faults = verify(str(root)).faults
    assert len(faults) == 2
    assert f"1 samples to be exported were not written, e.g. {path.stem}:{more}" in faults[0]
    assert f"1 samples were written more often than wanted, e.g. {path.stem}:{less}" in faults[1]
    times[less], times[np.flatnonzero(times == 0)[0]] = 4, 1
    pq.write_table(table.set_column(1, "copies", pa.array(times)), path)
    repair(Store(str(root)), said)
    told = "\n".join(verify(str(root)).faults)
    for fault in ("4 times, the multiplier is 3", "the recipe's balance makes it 150", "left_out or repeats is not"):
        assert fault in told


def test_deep_verification_finds_a_flipped_byte_in_a_balanced_export(root: Path, inputs: Path) -> None:
    balanced(root, inputs, *REPEATED)
    path, key = rewritten(root, lambda sample: {"image": flipped(sample["image"])})
    assert verify(str(root)).faults == ()
    (fault,) = verify(str(root), deep=True).faults
    assert fault.startswith(f"{path}: sample {key}: its image is not that of sample")


def test_another_balance_keeps_the_labels_and_gc_removes_what_the_old_one_left(root: Path, inputs: Path) -> None:
    before = balanced(root, inputs, *REPEATED).plan
    after = balanced(root, inputs, "export.balance=60").plan
    assert (before.labels, before.classes) == (after.labels, after.classes)
    assert before.balance in {entry.folder for entry in collect(str(root)).folders}
    assert not (root / before.balance).exists()
    assert verify(str(root)).faults == ()


def test_a_balance_without_classes_is_refused_and_so_is_a_multiplier_without_a_balance() -> None:
    with pytest.raises(RecipeError, match=r"export: export.balance evens out classes, and there are none: set classes.k"):
        load("sample", ["classes.k=null", "export.balance=10"])
    with pytest.raises(RecipeError, match=r"set export.balance to the samples wanted"):
        load("sample", ["export.multiplier=2"])
    assert load("sample", ["classes.k=null", "classes.fit_on=/other/root", "export.balance=10"]).export.balance == 10


def test_a_balance_is_drawn_by_content_and_not_by_the_order_of_the_input(finished: Path) -> None:
    """The same samples in other shards, in another order: the same ones are taken, as long as none is there twice."""
    plan = open_root(str(finished))
    assert plan.centroids is not None
    level = taxonomy.read_levels(plan.root, plan.centroids)[0]
    found, start = [], 0
    for shard in plan.shards:
        found.append(ranked(plan, RunShard(shard.shard_id, start), level))
        start += pq.read_metadata(finished / str(plan.labels) / f"{shard.shard_id}.parquet").num_rows
    rows = np.concatenate(found)
    assert len(set(rows["rank"])) == len(rows) > 100

    def share(sizes: Ints) -> Ints:
        return allocate(sizes, (), 70, seed=1, multiplier=2)

    cut = cuts.cuts(lambda: found, level.ids, share)
    times = dict(zip(rows["rank"].tolist(), cuts.copies(rows, cut).tolist(), strict=True))
    order = np.random.default_rng(0).permutation(len(rows))
    other = rows[order]
    other["row"] = np.arange(len(other))
    again = cuts.cuts(lambda: np.array_split(other, 7), level.ids, share)
    assert dict(zip(other["rank"].tolist(), cuts.copies(other, again).tolist(), strict=True)) == times
    assert sum(times.values()) == 70


@pytest.mark.parametrize("held", [cuts.HELD, 25])
@pytest.mark.parametrize("seed", range(8))
def test_cuts_of_any_partition_take_the_first_of_each_class_and_ties_by_row(
    seed: int, held: int, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuts, "HELD", held)
    generator = np.random.default_rng(seed)
    rows = np.zeros(400, cuts.RANKED)
    rows["place"], rows["rank"], rows["row"] = generator.integers(0, 9, 400), generator.integers(0, 12, 400), np.arange(400)
    if seed % 2:
        rows["rank"] = generator.integers(0, 2**64, 400, np.uint64)
    sizes = np.bincount(rows["place"], minlength=10)   # the last class is empty
    wanted = generator.integers(0, 2 * sizes + 1)
    expected = np.zeros(400, np.int64)
    for place in range(10):
        mine = np.flatnonzero(rows["place"] == place)
        mine = mine[np.lexsort((mine, rows["rank"][mine]))]
        expected[mine] = copies(np.arange(len(mine)), np.maximum(sizes[place], 1), wanted[place])
    parts = np.split(rows, np.sort(generator.integers(0, 401, seed)))
    cut = cuts.cuts(lambda: parts, np.arange(10, dtype=np.int32), lambda found: wanted)
    assert np.array_equal(cut["samples"], sizes)
    assert np.array_equal(cuts.copies(rows, cut), expected)


def test_no_sample_at_all_gives_no_cut_and_no_copy() -> None:
    nothing = np.zeros(0, cuts.RANKED)
    cut = cuts.cuts(lambda: [nothing], np.zeros(0, np.int32), lambda sizes: allocate(sizes, (), 10, seed=0))
    assert (len(cut), len(cuts.copies(nothing, cut)), len(cuts.content_keys([]))) == (0, 0, 0)


def test_a_rank_by_closeness_rises_as_the_cosine_falls_and_a_key_is_the_first_half_of_the_uid() -> None:
    assert (np.diff(cuts.farther(np.array([1.0001, 1, 0.999, 0, -0.5, -1, -2])).astype(np.int64)) >= [0, 1, 1, 1, 1, 0]).all()
    assert cuts.farther(np.array([-1.0]))[0] == 2**31
    assert cuts.content_keys(["00000000000000ff" + 16 * "a", "8" + 31 * "0"]).tolist() == [255, 2**63]
    assert len(set(draws(cuts.content_keys([f"{i:016x}" for i in range(1000)]), 0, -1).tolist())) == 1000
