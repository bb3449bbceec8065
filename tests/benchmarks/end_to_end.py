"""The annotate pass on Ray actors against a bare loop of the model step on the same actors.

Both are works of the same executor. An actor reports when its work is open and warm and waits until all of them are;
the clock runs from there to the last outcome.
"""

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.distributed.ray_executor import RayExecutor
from pipeline.input.discovery import Shard, discover
from pipeline.models.clip import Encoder, open_encoder
from pipeline.models.machine import local_route
from pipeline.models.process import prepare_process
from pipeline.models.route import RouteWish
from pipeline.passes.annotate import BATCH_ROWS, Annotate
from pipeline.plan import Plan
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled
from pipeline.stages.clip import ClipStage
from pipeline.store.store import Store
from pipeline.store.tables import read_columns
from pipeline.work import Facts, Item, Work
from tests.benchmarks.figures import Figure, median, ratio
from tests.benchmarks.replicas import decoded, readable, write_shards

WORKERS = 2
PATIENCE = 300.0
"""Seconds that an actor waits for the others."""


@dataclass(frozen=True)
class Size:
    """How much is measured: so many shards of so many rows after a warm-up of `warm` rows per actor."""

    shards: int
    rows: int
    warm: int


@dataclass(frozen=True)
class Bounds:
    """Of the bare loop's speed, and GB of an actor's memory (None: as the model needs)."""

    ratio: float
    memory: float | None = None


@dataclass(frozen=True)
class Warm(Work[Item]):
    """A work that does its `first` item while it opens, and then waits for the other actors."""

    work: Work[Item]
    first: Item
    folder: str
    workers: int = WORKERS

    def name(self, item: Item) -> str:
        return self.work.name(item)

    @contextmanager
    def open(self) -> Iterator[Callable[[Item], Facts]]:
        prepare_process()
        with self.work.open() as run:
            opened = time.time()
            run(self.first)
            here = Path(self.folder)
            (here / f"{os.getpid()}.part").write_text(json.dumps({"opened": opened, "warm": time.time()}))
            (here / f"{os.getpid()}.part").rename(here / f"{os.getpid()}.json")
            while len(list(here.glob("*.json"))) < self.workers and time.time() < opened + PATIENCE:
                time.sleep(0.01)
            yield lambda item: accounted(run, item)


def accounted(run: Callable[[Item], Facts], item: Item) -> Facts:
    """The work's facts with the processor time that this process spent on the item (s) and its largest resident set (kB)."""
    began = time.process_time()
    facts = run(item)
    return {**facts, "cpu": time.process_time() - began, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


@dataclass(frozen=True)
class Towers(Work[int]):
    """The model step alone: both towers over pixels and tokens that lie ready in memory; an item is a number of rows."""

    clip: ClipStage
    pixels: str
    tokens: str

    def name(self, item: int) -> str:
        return f"{item} rows"

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        pixels = torch.from_numpy(np.load(self.pixels)).permute(0, 3, 1, 2)
        tokens = torch.from_numpy(np.load(self.tokens))
        with open_encoder(self.clip.spec, self.clip.route, self.clip.micro_batch) as encoder:
            assert isinstance(encoder, Encoder)
            yield lambda rows: model_step(encoder, pixels, tokens, rows)


def model_step(encoder: Encoder, pixels: torch.Tensor, tokens: torch.Tensor, rows: int) -> Facts:
    """Embeds `rows` pairs, going round the ones in memory, in the batches of the annotate pass."""
    for start in range(0, rows, BATCH_ROWS):
        these = range(start, min(start + BATCH_ROWS, rows))
        chosen = [row % len(pixels) for row in these]
        encoder.encode_images(pixels[chosen])
        encoder.encode_tokens(tokens[chosen])
    return {"rows": rows}


@dataclass(frozen=True)
class Pass:
    """One timed pass."""

    rate: float
    """embedded pairs/s, all actors together"""
    cpu: float
    """processor time of the actors, microseconds per embedded pair"""
    start: float
    """seconds until the first item could start: process, libraries, model"""
    peak: float
    """largest resident set of an actor, GB"""


def timed(work: Work[Item], first: Item, items: Sequence[Item], embedded: Callable[[], int]) -> Pass:
    """Runs the work on fresh actors."""
    with tempfile.TemporaryDirectory() as folder:
        executor = RayExecutor(WORKERS)
        began = time.time()
        outcomes = list(executor.run(Warm(work, first, folder), items))
        ended = time.time()
        executor.close()
        stamps = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    faults = [outcome.error for outcome in outcomes if outcome.error is not None]
    if faults or len(stamps) != WORKERS:
        raise RuntimeError(f"the pass is not whole: {len(stamps)} actors, {faults}")
    seconds = ended - max(stamp["warm"] for stamp in stamps)
    facts = [outcome.facts for outcome in outcomes]
    return Pass(
        rate=embedded() / seconds,
        cpu=sum(each["cpu"] for each in facts) / embedded() * 1e6,
        start=max(stamp["opened"] for stamp in stamps) - began,
        peak=max(each["peak"] for each in facts) * 1024 / 1e9,
    )


def annotate_pass(folder: Path, overrides: Sequence[str], size: Size) -> Pass:
    """The annotate pass of the recipe `sample` over replicated shards in `folder`."""
    shards, first = discover([str(folder / "shards")]), discover([str(folder / "warm")])[0]
    with tempfile.TemporaryDirectory(dir=folder) as root:
        plan = plan_of(root, overrides, shards)
        work = Annotate(plan.columns, plan.stages, plan.recipe.reading)

        def embedded() -> int:
            where = plan.columns.folders["clip"]
            tables = [read_columns(plan.root, where, shard.shard_id, ["clip_similarity"]) for shard in shards]
            assert sum(len(table) for table in tables) == size.shards * size.rows
            return sum(len(table) - table.column(0).null_count for table in tables)

        return timed(work, work.of([first])[0], work.of(shards), embedded)


def bare_pass(folder: Path, overrides: Sequence[str], size: Size) -> Pass:
    """The model step over as many rows, ready in memory."""
    work = Towers(plan_of(str(folder / "unused"), overrides, ()).clip, str(folder / "pixels.npy"), str(folder / "tokens.npy"))
    return timed(work, size.warm, [size.rows] * size.shards, lambda: size.shards * size.rows)


def plan_of(root: str, overrides: Sequence[str], shards: Sequence[Shard]) -> Plan:
    recipe = load("sample", overrides)
    return Plan.of(Store(root), recipe, shards, Settled(local_route(RouteWish(recipe.model.precision, "cpu"))))


def prepare(folder: Path, overrides: Sequence[str], size: Size) -> None:
    """Replicated shards, one more to warm up on, and the pixels and tokens of the readable pairs."""
    write_shards(folder / "shards", size.shards, size.rows)
    write_shards(folder / "warm", 1, size.warm)
    clip = plan_of(str(folder / "unused"), overrides, ()).clip
    pairs = readable()[: size.shards * size.rows]
    with open_encoder(clip.spec, clip.route, clip.micro_batch) as encoder:
        pixels = encoder.preprocess(decoded(data).pixels for data, _ in pairs)
        np.save(folder / "pixels.npy", pixels.permute(0, 2, 3, 1).contiguous().numpy())
        assert isinstance(encoder, Encoder)
        np.save(folder / "tokens.npy", encoder.towers.tokenizer([caption for _, caption in pairs]).numpy())


def measure(size: Size, overrides: Sequence[str], bounds: Bounds, rounds: int) -> list[Figure]:
    """Needs a Ray of WORKERS CPUs. What is written goes with the temporary folder."""
    sides: Mapping[str, Callable[..., Pass]] = {"annotate": annotate_pass, "bare": bare_pass}
    passes: dict[str, list[Pass]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), overrides, size)
        for _ in range(rounds):
            for side, run in sides.items():
                passes[side].append(run(Path(name), overrides, size))
    ours, bare = ([one.rate for one in passes[side]] for side in sides)
    our_cpu, bare_cpu = ([one.cpu for one in passes[side]] for side in sides)
    return [
        ratio(f"end to end / bare model step, {size.shards * size.rows:,} rows", ours, bare, bounds.ratio),
        ratio("the same by processor time (waiting does not count)", bare_cpu, our_cpu, None),
        Figure("end to end", median(ours), "images/s", rounds=tuple(ours)),
        Figure("bare model step", median(bare), "images/s", rounds=tuple(bare)),
        Figure("end to end, processor time", median(our_cpu), "us/image", rounds=tuple(our_cpu)),
        Figure("bare model step, processor time", median(bare_cpu), "us/image", rounds=tuple(bare_cpu)),
        Figure("start-up, until the first shard can start", median([one.start for one in passes["annotate"]]), "s"),
        Figure("start-up of the bare loop", median([one.start for one in passes["bare"]]), "s"),
        Figure("peak resident set of an actor", max(one.peak for one in passes["annotate"]), "GB", bounds.memory, at_most=True),
    ]
