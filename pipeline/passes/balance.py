"""How often the export takes each kept sample: balanced over the classes from the top down (`export/allocation.py`).

Workers rank the samples of each shard within their classes. The driver shares the target out among the classes and finds where
the order of each class is cut, from files of ranks that it goes through some times. From the cuts alone workers then write
`copies@<fp>/<shard_id>.parquet`, each shard by itself.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pipeline.columns import Run, RunShard, ShardWork
from pipeline.draws import ROOT, draws
from pipeline.driver import Driver
from pipeline.export.allocation import allocate
from pipeline.export.cuts import RANKED, Cuts, Ranked, content_keys, copies, cuts, farther
from pipeline.export.plan import times_taken
from pipeline.export.stored import META, stored_meta
from pipeline.passes.labels import first_labels
from pipeline.plan import Plan
from pipeline.reduce.classes import taxonomy
from pipeline.reduce.describe.names import Level, positions
from pipeline.select.stored import kept_rows
from pipeline.store.store import PARTIAL
from pipeline.store.tables import (
    npy_bytes,
    read_columns,
    read_many_facts,
    read_npy,
    read_vector_rows,
    stored_shards,
    write_shard_table,
)
from pipeline.vectors import unit
from pipeline.work import Facts
from schemas.columns import COPIES

CUTS = "cuts.npy"
CHUNK = 4096
"""Embeddings in float64 at a time."""


def balance_export(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes the folder `plan.balance`; nothing when the recipe asks for no balance."""
    folder = plan.balance
    if folder is None:
        return
    scratch = f"{PARTIAL}/{folder}-ranks"
    if not plan.root.exists(f"{folder}/{CUTS}"):
        stored = {name.removesuffix(".npy") for name in plan.root.names(scratch)}
        driver.complete("rank", Rank(plan.without_inputs(), scratch), run.rows.shards, stored)
        paths = [f"{scratch}/{shard_id}.npy" for shard_id in run.rows.shard_ids]
        plan.root.write(f"{folder}/{CUTS}", npy_bytes(_cuts(plan, lambda: (read_npy(plan.root, path) for path in paths))))
    plan.root.remove(scratch)
    driver.complete("balance", Copy(plan.without_inputs()), run.rows.shards, stored_shards(plan.root, [folder]))


def _cuts(plan: Plan, parts: Callable[[], Iterable[Ranked]]) -> Cuts:
    export, levels = plan.recipe.export, taxonomy.read_levels(plan.root, plan.fitted.centroids)
    above = [positions(below.parents, level.ids) for below, level in pairwise(levels) if below.parents is not None]
    share = partial(allocate, parents=above, target=export.balance or 0, seed=plan.recipe.seed, multiplier=export.multiplier)
    return cuts(parts, levels[0].ids, share)


def ranked(plan: Plan, shard: RunShard, level: Level) -> Ranked:
    """RANKED [labelled samples of a shard], in the order of its rows. Ranks are draws by uid, or the cosine to the own centroid,
    ties by the draw: neither knows the order of the input."""
    table = first_labels(plan, shard.shard_id, 1.0)
    if plan.selected != plan.verdicts:   # of the labelled, those that went for their classes are not exported
        table = table.filter(np.isin(table.column("row"), kept_rows(plan.root, plan.verdicts, shard.shard_id)))
    local = np.asarray(table.column("row"), np.int64)
    ranks = np.zeros(len(local), RANKED)
    ranks["place"], ranks["row"] = positions(np.asarray(table.column("label"), np.int32), level.ids), shard.first_row + local
    ranks["rank"] = draws(content_keys(table.column("uid").to_pylist()), plan.recipe.seed, ROOT)
    if plan.recipe.export.balance_order == "closest" and len(local):
        vectors = read_vector_rows(plan.root, plan.columns.folders["clip"], shard.shard_id, "image_embedding", local)
        for start in range(0, len(local), CHUNK):
            chunk = ranks[start : start + CHUNK]
            rows = unit(vectors[start : start + CHUNK])
            cosine = np.sum(rows * level.centroids[chunk["place"]].astype(np.float64), axis=1)
            chunk["rank"] = (farther(cosine) << np.uint64(32)) | (chunk["rank"] >> np.uint64(32))
    return ranks


@dataclass(frozen=True)
class Rank(ShardWork):
    """Writes RANKED of one shard to `folder`."""

    plan: Plan
    folder: str

    @contextmanager
    def open(self) -> Iterator[Callable[[RunShard], Facts]]:
        level = taxonomy.read_levels(self.plan.root, self.plan.fitted.centroids)[0]
        yield lambda item: self._run(item, level)

    def _run(self, item: RunShard, level: Level) -> Facts:
        ranks = ranked(self.plan, item, level)
        self.plan.root.write(f"{self.folder}/{item.shard_id}.npy", npy_bytes(ranks))
        return {"rows": len(ranks)}


@dataclass(frozen=True)
class Copy(ShardWork):
    """Writes how often each sample of one shard is taken."""

    plan: Plan

    @contextmanager
    def open(self) -> Iterator[Callable[[RunShard], Facts]]:
        level = taxonomy.read_levels(self.plan.root, self.plan.fitted.centroids)[0]
        cut = read_npy(self.plan.root, f"{self.plan.balance}/{CUTS}")
        yield lambda item: self._run(item, level, cut)

    def _run(self, item: RunShard, level: Level, cut: Cuts) -> Facts:
        plan = self.plan
        uid = read_columns(plan.root, plan.fitted.labels, item.shard_id, ["uid"]).column("uid").combine_chunks()
        ranks = ranked(plan, item, level)
        times = np.zeros(len(uid), np.int32)
        times[ranks["row"] - item.first_row] = copies(ranks, cut)
        total, samples = int(times.sum()), int(np.count_nonzero(times))
        facts = {"rows": len(uid), "taken": total, "left_out": len(ranks) - samples, "repeats": total - samples}
        table = pa.table([uid, pa.array(times)], schema=COPIES)
        write_shard_table(plan.root, f"{plan.balance}/{item.shard_id}.parquet", table, facts)
        return {"rows": len(uid)}


def taken_counts(plan: Plan, run: Run) -> tuple[dict[str, int], dict[str, int]]:
    """Samples that the export takes by shard, repeats counted; and of all: `left_out` of the kept, `repeats` beyond the first."""
    shard_ids = run.rows.shard_ids
    footers = list(read_many_facts(plan.root, [f"{plan.balance}/{shard_id}.parquet" for shard_id in shard_ids]))
    by_shard = {shard_id: int(footer["taken"]) for shard_id, footer in zip(shard_ids, footers, strict=True)}
    return by_shard, {name: sum(int(footer[name]) for footer in footers) for name in ("left_out", "repeats")}


def balance_faults(plan: Plan, run: Run, kept: int) -> Iterator[str]:
    """What is not as the recipe's balance has it: the samples taken in all, how often one is, that only kept ones are, and what
    is told of them."""
    if plan.balance is None:
        return
    export, total, different = plan.recipe.export, 0, 0
    for shard_id in run.rows.shard_ids:
        times = times_taken(plan.root, plan.balance, shard_id)
        total, different = total + int(times.sum()), different + int(np.count_nonzero(times))
        strangers = np.setdiff1d(np.flatnonzero(times), kept_rows(plan.root, plan.verdicts, shard_id))
        if len(strangers):
            yield f"shard {shard_id}: {len(strangers)} samples are to be exported that were not kept, e.g. row {strangers[0]}"
        if times.max(initial=0) > export.multiplier:
            yield f"shard {shard_id}: a sample is to be exported {times.max()} times, the multiplier is {export.multiplier}"
    target = min(export.balance or 0, export.multiplier * kept)
    if total != target:
        yield f"{plan.balance}: {total} samples are to be exported, the recipe's balance makes it {target}"
    meta, account = stored_meta(plan.root, plan.export), {"left_out": kept - different, "repeats": total - different}
    if any(meta.get(name) != count for name, count in account.items()):
        yield f"{plan.export}/{META}: left_out or repeats is not what the copies say ({account})"
