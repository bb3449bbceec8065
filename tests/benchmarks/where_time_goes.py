"""Microseconds per row of the reader, each stage and the commit, in one process and one thread; and the matcher alone."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa

from pipeline.captions.normal import normalised
from pipeline.entities.recogniser import name_finder
from pipeline.input.discovery import Shard, discover
from pipeline.input.reader import read
from pipeline.models.process import prepare_process
from pipeline.passes.annotate import BATCH_ROWS, commit
from pipeline.plan import Plan
from pipeline.stage import Transform, checked, joined
from pipeline.stages.caption import caption_measures
from pipeline.stages.mentions import add_names, alias_mentions
from pipeline.store.blocks.writing import Said
from schemas.columns import SAMPLES
from tests.benchmarks.end_to_end import plan_of
from tests.benchmarks.figures import Figure, interleaved, median
from tests.benchmarks.replicas import samples, write_shards
from tests.samples import wordnet

CAPTIONS_PER_SECOND = 15_000

Seconds = dict[str, float]


@contextmanager
def clocked(seconds: Seconds, name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - began


def profile(rows: int, rounds: int) -> list[Figure]:
    """The pass over one shard, part after part; the first round is not counted."""
    prepare_process()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        write_shards(Path(name) / "shards", 1, rows)
        shards = discover([str(Path(name) / "shards")])
        plan = plan_of(f"{name}/root", (), shards)
        transforms = [stack.enter_context(stage.open()) for stage in plan.stages]
        found = [one_pass(plan, shards[0], transforms) for _ in range(rounds + 1)][1:]
    total = [sum(seconds.values()) for seconds in found]
    parts = [Figure(part, median([s[part] for s in found]) / rows * 1e6, "us/row") for part in found[0]]
    return [*parts, Figure("sum", median(total) / rows * 1e6, "us/row")]


def one_pass(plan: Plan, shard: Shard, transforms: Sequence[Transform]) -> Seconds:
    """What `runner.Annotate` does, with a clock around every part."""
    seconds: Seconds = defaultdict(float)
    parts: dict[str, list[pa.RecordBatch]] = defaultdict(list)
    batches = iter(read(shard, batch_rows=BATCH_ROWS, reading=plan.recipe.reading))
    while True:
        with clocked(seconds, "read"):
            batch = next(batches, None)
        if batch is None:
            break
        parts["samples"].append(batch.select(SAMPLES.names))
        for stage, transform in zip(plan.stages, transforms, strict=True):
            with clocked(seconds, stage.contract.name):
                after = transform(batch)
            with clocked(seconds, "contracts"):
                after = checked(stage, batch, after)
                parts[stage.contract.name].append(after.select(stage.writes.names))
                batch = joined(batch, after)
    schemas = {"samples": SAMPLES, **{stage.contract.name: stage.writes for stage in plan.stages}}
    with clocked(seconds, "commit"):
        tables = {name: pa.Table.from_batches(batches, schemas[name]) for name, batches in parts.items()}
        commit(plan.columns, [Said(shard.shard_id, tables["samples"].num_rows, {"shard_id": shard.shard_id})], tables)
    return dict(seconds)


def names(rounds: int) -> list[Figure]:
    """What the recogniser of names adds to the aliases of the bundled captions, and how many of those names are entities."""
    texts = [normalised(members["txt"].decode(errors="replace")) for members in samples() if "txt" in members]
    index, find = wordnet()[1], name_finder()
    mentions = [alias_mentions(index, text) for text in texts]
    for text, known, spans in zip(texts, mentions, find(texts), strict=True):
        add_names(text, known, spans)
    added = [mention["alias"] for known in mentions for mention in known if mention["source"] == "ner"]
    seconds = interleaved({"names": lambda: find(texts)}, rounds)["names"]
    return [
        Figure(f"names added to {len(texts)} captions", len(added), ""),
        Figure("  of which the knowledge base has a sense", sum(bool(index.senses.get(alias)) for alias in added), ""),
        Figure("recogniser of names", 1e3 * median(seconds) / len(texts), "ms/caption"),
    ]


def matcher(rounds: int) -> list[Figure]:
    """Captions through the alias matcher, and through the whole caption stage's measurements, on one core."""
    texts = [normalised(members["txt"].decode(errors="replace")) for members in samples() if "txt" in members]
    index = wordnet()[1]
    [alias_mentions(index, text) for text in texts]   # warm-up
    seconds = interleaved({
        "alias matcher": lambda: [alias_mentions(index, text) for text in texts],
        "caption stage": lambda: [caption_measures(text) for text in texts],
    }, rounds)
    bounds = {"alias matcher": CAPTIONS_PER_SECOND}
    return [Figure(name, len(texts) / median(spent), "captions/s", bounds.get(name)) for name, spent in seconds.items()]
