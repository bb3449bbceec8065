"""Columns over the run are those of one process that holds all of it, byte for byte, however it is cut or killed."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.api.progress import Silent
from pipeline.columns import Run
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.errors import ContractViolation
from pipeline.passes.verdicts.run_columns import write_run_columns
from pipeline.plan import Plan
from pipeline.root.log import EventLog
from pipeline.shuffle import exchange
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import read_table, write_table
from schemas.tables import DUPLICATES
from tests.passes.synthetic import planned, write_stage
from tests.shuffle.test_exchange import Killed

COUNTS = (7, 0, 200, 1, 120, 0)
RULES = ("filters.pair_duplicate.equals=false", "filters.caption_images.max=9")


def synthetic(folder: Path) -> tuple[Plan, Run, dict[str, list[Any]]]:
    """A run whose rows repeat uids, captions and images, some of which are missing, with a table of duplicates, and its columns."""
    plan, run = planned(Store(str(folder)), COUNTS, RULES)
    rng, total = np.random.default_rng(4), sum(COUNTS)
    captions = [None if i == 0 else f"caption {i}" for i in np.where(rng.random(total) < 0.4, 1, rng.integers(0, 40, total))]
    images = [None if i == 0 else f"{i:064x}" for i in rng.integers(0, 60, total)]
    uids = [f"{i:032x}" for i in rng.integers(0, 250, total)]
    write_stage(run, "samples", {"uid": pa.array(uids)})
    write_stage(run, "caption", {"caption_text": pa.array(captions)})
    write_stage(run, "hashes", {"sha256": pa.array(images)})
    rows = np.sort(rng.integers(0, total, 90))
    shard_ids, local = run.rows.ids(rows)
    kinds, removed = rng.choice(["uid", "sha256", "near"], 90).tolist(), (rng.random(90) < 0.7).tolist()
    pairs = pa.table({name: pa.nulls(90, DUPLICATES.field(name).type) for name in DUPLICATES.names})
    for name, values in {"shard_id": shard_ids, "row": local, "kind": kinds, "removed": removed}.items():
        field = DUPLICATES.field(name)
        pairs = pairs.set_column(DUPLICATES.get_field_index(name), field, pa.array(values, field.type))
    write_table(plan.root, f"{plan.duplicates}/duplicates.parquet", pairs, {})
    gone = [(row, kind == "near") for row, kind, is_removed in zip(rows.tolist(), kinds, removed, strict=True) if is_removed]
    return plan, run, {"uid": uids, "caption": captions, "image": images, "gone": gone}


def expected(columns: dict[str, list[Any]]) -> pa.Table:
    """What one process says that holds everything."""
    others: dict[tuple[str, str], set[str]] = defaultdict(set)
    pairs = list(zip(columns["caption"], columns["image"], strict=True))
    for caption, image in pairs:
        if caption and image:
            others["caption", caption].add(image)
            others["image", image].add(caption)
    uids, rows = columns["uid"], range(len(pairs))
    return pa.table({
        "uid": pa.array(uids),
        "exact_duplicate": pa.array([(row, False) in columns["gone"] for row in rows]),
        "near_duplicate": pa.array([(row, True) in columns["gone"] for row in rows]),
        "pair_duplicate": pa.array([uid in uids[:row] for row, uid in enumerate(uids)]),
        "caption_images": pa.array([len(others["caption", c]) if c and i else None for c, i in pairs], pa.int32()),
        "image_captions": pa.array([len(others["image", i]) if c and i else None for c, i in pairs], pa.int32()),
    })


def driven(plan: Plan, lives: int | None = None) -> Driver:
    return Driver(plan.root, LocalExecutor() if lives is None else Killed(lives), Silent(), EventLog(plan.root))


@pytest.mark.parametrize(("group_rows", "partition_rows", "kills"), [(10**6, 10**6, ()), (100, 150, (4, 2, 4, 6, 1))])
def test_columns_over_the_run_are_those_of_one_process_that_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int, partition_rows: int, kills: tuple[int, ...],
) -> None:
    monkeypatch.setattr(exchange.groups_of, "__defaults__", (group_rows,))
    monkeypatch.setattr(exchange, "PARTITION_ROWS", partition_rows)
    plan, run, columns = synthetic(tmp_path)
    for lives in kills:
        with pytest.raises(KeyboardInterrupt):
            write_run_columns(plan, run, driven(plan, lives))
    assert not kills or plan.root.folders(PARTIAL)
    write_run_columns(plan, run, driven(plan))
    whole = expected(columns)
    for shard, count in zip(run.rows.shards, COUNTS, strict=True):
        path = f"{plan.run_columns}/{shard.shard_id}.parquet"
        write_table(plan.root, "expected.parquet", whole.slice(shard.first_row, count).combine_chunks(), {"rows": count})
        assert plan.root.read(path) == plan.root.read("expected.parquet"), path
    assert not plan.root.folders(PARTIAL)
    write_run_columns(plan, run, driven(plan, lives=0))   # nothing is left to do


def test_what_the_recipe_does_not_look_for_is_null_and_not_false(tmp_path: Path) -> None:
    no_rules = ("filters.exact_duplicate=null", "filters.near_duplicate=null")
    plan, run = planned(Store(str(tmp_path)), (2,), ("duplicates.find=none", *no_rules))
    write_stage(run, "samples", {"uid": pa.array(["0" * 32, "1" * 32])})
    write_table(plan.root, f"{plan.duplicates}/duplicates.parquet", DUPLICATES.empty_table(), {})
    write_run_columns(plan, run, driven(plan))
    written = read_table(plan.root, f"{plan.run_columns}/shard0.parquet")
    assert written.select(["exact_duplicate", "near_duplicate"]).to_pylist() == [dict.fromkeys(written.column_names[1:])] * 2


def test_pairs_that_are_not_in_the_order_of_the_rows_are_refused_by_name(tmp_path: Path) -> None:
    plan, run, _ = synthetic(tmp_path)
    path = f"{plan.duplicates}/duplicates.parquet"
    write_table(plan.root, path, read_table(plan.root, path)[::-1], {})
    with pytest.raises(ContractViolation, match=r"duplicates\.parquet"):
        write_run_columns(plan, run, driven(plan))
