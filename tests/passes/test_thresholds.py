"""The numbers behind relative rules are those of one process that holds the whole run, however it is cut or killed."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.api.progress import Silent
from pipeline.distributed.local import LocalExecutor
from pipeline.draws import sampled
from pipeline.driver import Driver
from pipeline.passes.verdicts import thresholds as room
from pipeline.passes.verdicts.thresholds import resolve_thresholds, thresholds_of
from pipeline.root.log import EventLog
from pipeline.select.thresholds import null_threshold
from pipeline.shuffle import exchange
from pipeline.store.blocks.several import write_columns
from pipeline.store.blocks.writing import Said
from pipeline.store.store import PARTIAL, Store
from pipeline.vectors import Bools, Halves
from tests.passes.synthetic import planned, write_stage
from tests.shuffle.test_exchange import Killed

COUNTS = (60, 0, 1, 300, 40)
RULES = ("filters.wide={column: width, fraction: 0.3}",)


def null_in_one_place(images: Halves, texts: Halves, valid: Bools, pairs: int) -> np.ndarray:
    """Cosines of shuffled pairs of rows that are drawn from arrays of the whole run, by seed 0."""
    rng = np.random.default_rng([0, 2])
    rows = sampled(np.flatnonzero(valid), pairs, rng)
    order = rng.permutation(len(rows))
    return np.einsum("ij,ij->i", images[rows].astype(np.float32)[order], texts[rows].astype(np.float32)[np.roll(order, 1)])


@pytest.mark.parametrize(("group_rows", "pairs", "kills"), [(10**6, 10**6, ()), (50, 90, (2, 1, 4))])
def test_thresholds_of_a_run_in_pieces_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int, pairs: int, kills: tuple[int, ...],
) -> None:
    monkeypatch.setattr(exchange.groups_of, "__defaults__", (group_rows,))
    monkeypatch.setattr(room, "NULL_PAIRS", pairs)
    plan, run = planned(Store(str(tmp_path)), COUNTS, RULES)
    rng, total = np.random.default_rng(8), sum(COUNTS)
    images, texts = (rng.normal(size=(total, 8)).astype(np.float16) for _ in range(2))
    valid, failed = rng.random(total) < 0.8, rng.random(total) < 0.2
    widths = [None if i == 0 else int(i) for i in rng.integers(0, 9, total)]
    nothing = pa.nulls(total, pa.string())
    for stage in run.columns.folders:
        of_image = {"width": pa.array(widths, pa.int32())} if stage == "image" else {}
        errors = pa.array(["image_empty" if bad else None for bad in failed], pa.string()) if stage == "image" else nothing
        write_stage(run, stage, {**of_image, f"{stage}_error": errors})
    lists = {name: pa.FixedSizeListArray.from_arrays(pa.array(m.reshape(-1)), 8, mask=pa.array(~valid))
             for name, m in (("image_embedding", images), ("text_embedding", texts))}
    for shard, (start, end) in zip(run.rows.shards, pairwise(run.rows.offsets.tolist()), strict=True):
        columns = pa.table({**lists, "clip_error": nothing}).slice(start, end - start)
        write_columns(plan.root, plan.columns.folders["clip"], [Said(shard.shard_id, end - start, {})], columns)
    for lives in kills:
        with pytest.raises(KeyboardInterrupt):
            resolve_thresholds(plan, run, Driver(plan.root, Killed(lives), Silent(), EventLog(plan.root)))
    assert not kills or plan.root.folders(PARTIAL)
    found = resolve_thresholds(plan, run, Driver(plan.root, LocalExecutor(), Silent(), EventLog(plan.root)))
    null = null_in_one_place(images, texts, valid, pairs)
    readable = [row for row, width in enumerate(widths) if width is not None and not failed[row]]
    kept = sorted(readable, key=lambda row: (-(widths[row] or 0), row))[: int(len(readable) * 0.3)]
    assert (found["wide"].value, found["wide"].last_tie) == (widths[kept[-1]], kept[-1])
    assert found["clip_similarity"].value == null_threshold(null, 0.55)
    stored = json.loads(plan.root.read(f"{plan.verdicts}/thresholds.json"))["null"]
    assert stored["pairs"] == len(null) == min(pairs, np.count_nonzero(valid))
    assert stored["counts"] == np.histogram(null, stored["edges"])[0].tolist()
    assert thresholds_of(plan.recipe, run) == found
    assert not plan.root.folders(PARTIAL)
