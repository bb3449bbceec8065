"""The subset files by which DataComp's resharder takes samples out of a pool: sorted, whatever the run's size and its uids."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.api.progress import Silent
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.passes.verdicts.subset import write_subset
from pipeline.root.log import EventLog
from pipeline.select.subset import SUBSET, SUBSET_SOURCE_UID, SUBSET_UID
from pipeline.shuffle import answers, exchange
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import npy_bytes, write_table
from tests.passes.synthetic import planned, write_stage
from tests.shuffle.test_exchange import Killed


def subset(uids: Sequence[str]) -> np.ndarray:
    """What DataComp's tools write of these uids."""
    array = np.array([(int(uid[:16], 16), int(uid[16:], 16)) for uid in uids], np.dtype("u8,u8"))
    array.sort()
    return array


OURS, THEIRS = ["0" * 31 + digit for digit in "21"], ["a" * 32, "B" * 32]
RANDOM = ["".join(digits) for digits in np.random.default_rng(8).choice(list("0123456789abcdef"), (300, 32))]
SKEWED = [*RANDOM[:150], *(f"{i:032x}" for i in range(40)), "7" * 32, *["5" * 32] * 100, "f" * 32, "0" * 16 + "f" * 16]


@pytest.mark.parametrize(("uids", "brought", "files"), [
    (OURS, THEIRS, {SUBSET_UID: OURS, SUBSET: THEIRS}),
    (OURS, [None, THEIRS[0]], {SUBSET_SOURCE_UID: THEIRS[:1], SUBSET: OURS}),
    (OURS, ["12", THEIRS[0] + "\n"], {SUBSET: OURS}),   # no uids as DataComp has them
    (OURS, [None, None], {SUBSET: OURS}),
    ([], [], {SUBSET: []}),
    (RANDOM[: len(SKEWED)], SKEWED, {SUBSET_UID: RANDOM[: len(SKEWED)], SUBSET: SKEWED}),
])
def test_the_subset_files_are_datacomp_s_for_any_groups_and_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uids: list[str], brought: list[str | None], files: dict[str, list[str]],
) -> None:
    monkeypatch.setattr(exchange.groups_of, "__defaults__", (90,))
    monkeypatch.setattr(exchange, "PARTITION_ROWS", 150)
    monkeypatch.setattr(answers, "CHUNK_ROWS", 30)
    monkeypatch.setattr(answers, "ROUND_ROWS", 20)
    kept, half = len(uids), len(uids) // 2
    plan, run = planned(Store(str(tmp_path)), (half, 0, kept - half + 1))
    samples = {"uid": pa.array([*uids, "9" * 32]), "source_uid": pa.array([*brought, "9" * 32], pa.string())}
    write_stage(run, "samples", samples)
    verdict = pa.array(["kept"] * kept + ["rejected:tiny"])
    for shard, count in zip(run.rows.shards, run.rows.counts, strict=True):
        part = pa.table({"verdict": verdict.slice(shard.first_row, count)})
        write_table(plan.root, f"{plan.verdicts}/{shard.shard_id}.parquet", part, {})
    for lives in (1, 4) if kept > 20 else ():
        with pytest.raises(KeyboardInterrupt):
            write_subset(plan, run, Driver(plan.root, Killed(lives), Silent(), EventLog(plan.root)), plan.verdicts)
    write_subset(plan, run, Driver(plan.root, LocalExecutor(), Silent(), EventLog(plan.root)), plan.verdicts)
    found = {name: plan.root.read(f"{plan.verdicts}/{name}") for name in plan.root.names(plan.verdicts) if name.endswith(".npy")}
    assert found == {name: npy_bytes(subset(expected)) for name, expected in files.items()}
    assert not plan.root.folders(PARTIAL)
