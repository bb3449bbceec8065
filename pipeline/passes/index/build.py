"""The index pass: from the embeddings of a run to the folder of their indexes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipeline.columns import Rows, Run
from pipeline.driver import Driver
from pipeline.errors import RootError
from pipeline.outputs import INDEX_BASE
from pipeline.passes.index.fill import TOGETHER, DrawGraph, Filling, filled
from pipeline.passes.index.indexed import Indexed, Member, Numbered, Site, members_of, numbered, read_members, write_members
from pipeline.passes.index.measure import measure
from pipeline.passes.index.train import Split, train, trained_path
from pipeline.plan import Plan
from pipeline.recipe.sections import Index
from pipeline.root.entries import file_record
from pipeline.search.index.choice import AUTO, FLAT, HNSW, ID_BYTES, Choice, Wish, chosen, code_bytes
from pipeline.search.index.stored import INDEX, read_record
from pipeline.shuffle.exchange import groups_of
from schemas.indexes import IndexFile, IndexRecord

GROWN = 4
"""Times the vectors that an index was trained at, from which on it is trained anew: its lists would be too long, and what came
later may be unlike what it was trained on."""


@dataclass(frozen=True)
class Asked:
    """What is asked of the indexes of a run."""

    settings: Index
    dimension: int
    """Values of a vector."""
    before: str | None
    """Folder of the indexes that these go on from, if they can."""

    def wish(self, vectors: int) -> Wish:
        """What is asked of an index of so many vectors."""
        settings = self.settings
        return Wish(vectors, self.dimension, settings.kind, settings.latency / 1e3, round(settings.memory * 1e9))


class Base(NamedTuple):
    """Indexes that others go on from."""

    folder: str
    record: IndexRecord
    members: list[Member]


def build_index(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes the folder `plan.index`; nothing where the recipe asks for no index. Raises InputError where no index fits the memory
    that the recipe gives it, RootError where the index that it goes on from is gone."""
    folder, settings = plan.index, plan.recipe.index
    if folder is None or plan.root.exists(f"{folder}/{INDEX}"):
        return
    indexed = indexed_by(plan, folder)
    build(indexed, run.rows, driver, Asked(settings, plan.clip.description.dimension, plan.others.get(INDEX_BASE)))


def indexed_by(plan: Plan, folder: str) -> Indexed:
    """What the indexes of a plan have; `folder`: theirs."""
    verdicts = plan.verdicts if plan.recipe.index.of == "kept" else None
    return Indexed(plan.root, plan.columns.folders["clip"], verdicts, folder, plan.recipe.seed)


def build(indexed: Indexed, rows: Rows, driver: Driver, asked: Asked) -> IndexRecord:
    """Makes the indexes of these rows of a run, and returns what index.json says."""
    store, folder, modalities = indexed.store, indexed.folder, tuple[str, ...](asked.settings.modality)
    site = Site(indexed, driver, groups_of(rows, max(1, TOGETHER // (2 * asked.dimension))))
    current = members_of(site)
    base, anew = usable(indexed, asked, current)
    table = numbered(current, base.members if base else ())
    write_members(store, folder, table.members)
    if base is None:
        planned = dict.fromkeys(modalities, trained_anew(site, asked, table, anew))
    else:
        planned = {modality: _again(indexed, base, modality) for modality in modalities}
    files = {modality: filled_with(site, table, (modality, file), base) for modality, file in planned.items()}
    trained_at = next(iter(files.values())).trained_at
    files = measure(site, files, Split.of(chosen(asked.wish(trained_at)), indexed.seed), asked.settings.recall)
    record = IndexRecord(
        of="all" if indexed.verdicts is None else "kept", columns=indexed.columns, verdicts=indexed.verdicts,
        base=base.folder if base else None, shards=len(table.members), removed=table.removed,
        added=sum(member.rows for member in table.members if member.shard_id in table.added), indexes=files)
    store.write_json(f"{folder}/{INDEX}", record.model_dump())
    store.remove(indexed.scratch)
    return record


def usable(indexed: Indexed, asked: Asked, current: Sequence[Member]) -> tuple[Base | None, str]:
    """The indexes that these go on from; or None, and why not (nothing where there were none). Raises RootError where their folder
    is no longer there."""
    if asked.before is None:
        return None, ""
    if not indexed.store.exists(f"{asked.before}/{INDEX}"):
        raise RootError(f"{indexed.store.url}: its index goes on from the one in {asked.before}, which is gone: train it anew, "
                        "--set index.grow=false")
    record = read_record(indexed.store, asked.before)
    base = Base(asked.before, record, read_members(indexed.store, asked.before))
    if record.columns != indexed.columns:
        return None, "the one before is of another model"
    if not set(asked.settings.modality) <= set(record.indexes):
        return None, "the one before is of other vectors"
    wish = asked.wish(sum(member.rows for member in current))
    faults = (_unfit(record.indexes[modality], base, current, wish) for modality in asked.settings.modality)
    why = next(filter(None, faults), "")
    return (None, why) if why else (base, "")


def _unfit(before: IndexFile, base: Base, current: Sequence[Member], wish: Wish) -> str:
    """Why an index cannot be gone on from; nothing where it can."""
    if wish.kind not in (AUTO, before.kind):
        return f"the one before is {before.kind}"
    if before.kind in (FLAT, HNSW) and chosen(wish).kind != before.kind:
        return f"so many vectors are too many for {before.kind}"
    if before.kind == HNSW and numbered(current, base.members).removed:
        return "nothing can be taken out of a graph"
    if before.kind != FLAT and not before.trained_at / GROWN <= wish.vectors <= before.trained_at * GROWN:
        return f"the one before was trained at {before.trained_at:,} vectors"
    width = code_bytes(before.code, before.dimension)
    if before.kind != FLAT and wish.vectors * (width + ID_BYTES) > wish.memory:
        return f"with codes of {width} bytes it would be larger than index.memory"
    return ""


def trained_anew(site: Site, asked: Asked, table: Numbered, anew: str) -> IndexFile:
    """Trains new indexes; what is known of each before it is filled."""
    choice: Choice = chosen(asked.wish(sum(member.rows for member in table.members)))
    choice = replace(choice, why=f"{choice.why}; trained anew, for {anew}") if anew else choice
    trained_on = 0 if choice.kind == HNSW else train(site, asked.settings.modality, choice)
    return IndexFile(
        file="", bytes=0, sha256="", trained_sha256="", vectors=0, queries={}, measured=(), dimension=choice.dimension,
        kind=choice.kind, code=choice.code, lists=choice.lists, why=choice.why, trained_on=trained_on, trained_at=choice.vectors)


def _again(indexed: Indexed, base: Base, modality: str) -> IndexFile:
    """Takes over what an index was trained to."""
    store, path = indexed.store, trained_path(indexed.folder, modality)
    if base.record.indexes[modality].kind != HNSW and not store.exists(path):
        store.write(path, store.read(trained_path(base.folder, modality)))
    return base.record.indexes[modality].model_copy(update={"queries": {}, "measured": ()})


def filled_with(site: Site, table: Numbered, planned: tuple[str, IndexFile], base: Base | None) -> IndexFile:
    """Fills the index of one kind of vectors; nothing is measured yet."""
    indexed, driver, groups = site
    modality, file = planned
    shards = [shard for group in groups for shard in group.shards if shard.shard_id in table.added]
    added = Rows(tuple(shard.shard_id for shard in shards), tuple(shard.rows for shard in shards))
    width = code_bytes(file.code, file.dimension) + ID_BYTES
    size = width * sum(member.rows for member in table.members)
    partitions = max(1, min(file.lists, -(-size // TOGETHER)))
    filling = Filling(indexed, modality, base.folder if base else None, file.lists, partitions)
    graph = DrawGraph(filling, added.shard_ids, file.dimension) if file.kind == HNSW else None
    made = filled(filling, driver, groups_of(added, max(1, TOGETHER // width)), graph)
    trained = "" if graph else file_record(indexed.store, trained_path(indexed.folder, modality))["sha256"]
    return file.model_copy(update={"file": f"{modality}.index", "trained_sha256": trained, **made})
