"""Whether the indexes of a root have exactly the vectors that its recipe asks for, of the bytes that are stored."""

from collections.abc import Iterator

from pipeline.columns import Run
from pipeline.errors import RootError
from pipeline.passes.index.build import indexed_by
from pipeline.passes.index.indexed import read_members
from pipeline.plan import Plan
from pipeline.process.ahead import Threads
from pipeline.search.index.stored import read_record


def index_faults(plan: Plan, run: Run, pool: Threads) -> Iterator[str]:
    """The account of the indexes against the embeddings and verdicts, shard by shard; what their files hold, the manifest's hashes
    say. Nothing where the recipe asks for no index."""
    if plan.index is None:
        return
    try:
        record, members = read_record(plan.root, plan.index), read_members(plan.root, plan.index)
    except (RootError, FileNotFoundError) as error:
        yield str(error)
        return
    indexed, last = indexed_by(plan, plan.index), {member.shard_id: member for member in members}

    def of_shard(shard_id: str) -> Iterator[str]:
        if last.get(shard_id) != indexed.member(shard_id):
            yield f"{plan.index}: shard {shard_id} has other vectors than the index says"

    yield from pool.faults(of_shard, run.rows.shard_ids)
    total = sum(member.rows for member in members)
    for shard_id in sorted({member.shard_id for member in members if member.rows} - set(run.rows.shard_ids)):
        yield f"{plan.index}: shard {shard_id} is in the index and not in the run"
    for name, file in record.indexes.items():
        if file.vectors != total:
            yield f"{plan.index}/{file.file} has {file.vectors:,} vectors, its shards {total:,}: {name}s are missing or too many"
