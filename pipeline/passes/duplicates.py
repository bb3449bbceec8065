"""The reductions of a run: columns of all shards in, tables out. Each is skipped when its table exists.

What is computed is in `reduce/`; here is what is read, and where it is written. A table's folder carries its fingerprint,
and the file named last in each function is written last: its existence means done.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.columns import Run
from pipeline.plan import Plan
from pipeline.recipe.rules import Threshold
from pipeline.reduce.duplicates import find as duplicates
from pipeline.select.columns import run_columns, shuffled_similarities, threshold_columns
from pipeline.select.thresholds import relative, resolve
from pipeline.select.verdicts import subset
from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_table, stored_shards, write_table


def find_duplicates(plan: Plan, run: Run) -> None:
    store, path = plan.root, f"{plan.duplicates}/duplicates.parquet"
    if store.exists(path):
        return
    hashes = run.table("hashes", ["sha256", "phash", "thumbnail"])
    thumbnails = hashes.column("thumbnail").combine_chunks()
    pictures = duplicates.Pictures(
        uid=run.table("samples", ["uid"]).column("uid").combine_chunks(),
        sha256=hashes.column("sha256").combine_chunks(),
        phash=np.asarray(hashes.column("phash").combine_chunks().fill_null(0), np.uint64),
        thumbnail=fixed_bytes(thumbnails, 768),
        pixels=np.asarray(run.table("image", ["pixels"]).column("pixels").combine_chunks().fill_null(0), np.int64),
        valid=np.asarray(thumbnails.is_valid()),
        embedding=run.vectors("image_embedding"),
    )
    settings = plan.recipe.duplicates
    found = duplicates.find_duplicates(pictures, radius=settings.radius, correlation=settings.correlation)
    write_table(store, path, duplicates.duplicate_table(found, pictures, run.rows), {"rows": run.rows.total})


def write_run_columns(plan: Plan, run: Run) -> None:
    """`<shard_id>.parquet` with the columns that need the whole run and that the rules may read."""
    if set(run.rows.shard_ids) <= stored_shards(plan.root, [plan.run_columns]):
        return
    pairs = read_table(plan.root, f"{plan.duplicates}/duplicates.parquet", ["shard_id", "row", "kind", "removed"])
    pairs = pairs.filter(pairs.column("removed"))
    rows = run.rows.numbers(pairs.column("shard_id").to_pylist(), np.asarray(pairs.column("row"), np.int64))
    near = np.asarray(pc.equal(pairs.column("kind"), "near"))
    masks = np.zeros((2, run.rows.total), bool)
    masks[near.astype(int), rows] = True
    wanted = plan.recipe.read_by_rules().get("derived", ())
    write_rows(plan.root, plan.run_columns, run, run_columns(run, masks[0], masks[1], wanted))


def fixed_bytes(array: pa.Array, width: int) -> NDArray[np.uint8]:
    """uint8 [rows, width] of a fixed-size binary column; zeros where null."""
    out = np.zeros((len(array), width), np.uint8)
    packed = b"".join(value for value in array.drop_null().to_pylist())
    out[np.asarray(array.is_valid())] = np.frombuffer(packed, np.uint8).reshape(-1, width)
    return out


def write_rows(store: Store, folder: str, run: Run, table: pa.Table) -> None:
    """One file per shard of a table that has a row for each row of the run."""
    for shard_id, start, count in zip(run.rows.shard_ids, run.rows.offsets, run.rows.counts, strict=False):
        write_table(store, f"{folder}/{shard_id}.parquet", table.slice(int(start), count).combine_chunks(), {"rows": count})


def resolve_thresholds(plan: Plan, run: Run) -> dict[str, Threshold]:
    """The numbers behind shares and quantiles; stored beside the null distribution that the report shows."""
    path = f"{plan.verdicts}/thresholds.json"
    if plan.root.exists(path):
        stored = plan.root.read_json(path)
        return {name: Threshold(**threshold) for name, threshold in stored["thresholds"].items()}
    null = shuffled_similarities(run, plan.recipe.seed)
    rules = plan.recipe.filters
    found = resolve(rules, threshold_columns(run, plan.recipe), null) if relative(rules) else {}
    edges = np.linspace(-1, 1, 201)
    plan.root.write_json(path, {
        "thresholds": {name: {"value": t.value, "last_tie": t.last_tie} for name, t in found.items()},
        "null": {"pairs": len(null), "edges": edges.tolist(), "counts": np.histogram(null, edges)[0].tolist()},
    })
    return found


def kept_mask(plan: Plan, run: Run) -> NDArray[np.bool_]:
    """bool [n]: the verdict is `kept`."""
    parts = [read_table(plan.root, f"{plan.verdicts}/{shard_id}.parquet", ["verdict"]) for shard_id in run.rows.shard_ids]
    return np.asarray(pc.equal(pa.concat_tables(parts).column("verdict"), "kept"))


def uids_of(run: Run, mask: NDArray[np.bool_]) -> Sequence[str]:
    column = run.table("samples", ["uid"]).column("uid")
    uids: list[str] = column.filter(pa.array(mask)).to_pylist()
    return uids


def write_subset(plan: Plan, run: Run) -> None:
    """DataComp's subset file of the kept samples."""
    path = f"{plan.verdicts}/subset.npy"
    if not plan.root.exists(path):
        plan.root.write(path, npy_bytes(subset(uids_of(run, kept_mask(plan, run)))))
