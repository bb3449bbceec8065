"""A trained index from a seeded random sample of the vectors: the lists by the run's own k-means, the codes by FAISS.

The sample is drawn by id, so it is the same however the run is divided; some vectors are held out of it, as queries of the
measurement. Its size goes by the number of lists and not by the run.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.draws import QUERIES, SAMPLE, drawn
from pipeline.driver import Driver
from pipeline.passes.classes import fits_alone, passes_told
from pipeline.passes.index.indexed import Indexed, Site
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.schedule import PRESETS, Schedule
from pipeline.search.index.choice import CODEC_ROWS, IVF_PQ, IVF_SQ, Choice
from pipeline.search.index.trained import TrainedIndex
from pipeline.shuffle.exchange import Group, GroupWork
from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.timing.progress import Scope
from pipeline.vectors import Bools, Floats, Halves, Ints, Matrix, unit
from pipeline.work import Facts, PlainWork, Units

FEW_LISTS = 64
"""So few lists are fitted by plain iterations; for more, two-level seeds and passes among neighbours take a third of the time."""
NPY_HEAD = 128
"""Bytes before the values of a .npy file of two dimensions."""
QUERIES_HELD = 256
"""Vectors that are asked for in a measurement, at most."""


@dataclass(frozen=True)
class Split:
    """Which vectors an index is trained on, and which are held out: by id."""

    seed: int
    trained: float
    """Expected share of all that are not held out."""
    held: float

    @classmethod
    def of(cls, choice: Choice, seed: int) -> "Split":
        """For an index of this choice. Where nothing is trained, nothing has to be held out of it: any may be a query."""
        if not choice.training_rows:
            return cls(seed, 0.0, 1.0)
        held = min(0.1, 4 * QUERIES_HELD / choice.vectors)
        return cls(seed, min(1.0, choice.training_rows / (choice.vectors * (1 - held))), held)

    def is_held(self, ids: Ints) -> Bools:
        """bool [n]: whether vectors with these ids, i64 [n], may be queries."""
        return drawn(ids, self.seed, QUERIES, self.held)

    def is_trained(self, ids: Ints) -> Bools:
        """bool [n]: whether the index is trained on them."""
        return drawn(ids, self.seed, SAMPLE, self.trained) & ~self.is_held(ids)


@dataclass(frozen=True)
class DrawSample(GroupWork):
    """Writes the vectors of a group that the index is trained on, float16 [n, d]: one file for each kind."""

    indexed: Indexed
    modalities: tuple[str, ...]
    split: Split
    dimension: int

    def run(self, item: Group) -> Facts:
        indexed = self.indexed
        places = [(shard.shard_id, indexed.rows(shard.shard_id)) for shard in item.shards]
        chosen = [(shard_id, rows[self.split.is_trained(indexed.ids(shard_id, rows))]) for shard_id, rows in places]
        for modality in reversed(self.modalities):   # the first is written last: it says that all are there
            parts: list[Halves] = [np.zeros((0, self.dimension), np.float16)]
            parts += [indexed.embeddings(shard_id, modality).read(rows) for shard_id, rows in chosen if len(rows)]
            indexed.store.write(sample_path(indexed, modality, item), npy_bytes(np.concatenate(parts)))
        return {"rows": item.rows}


def sample_path(indexed: Indexed, modality: str, group: Group) -> str:
    """Where the sample of a group is."""
    return f"{indexed.scratch}/sample-{modality}-{group}.npy"


@dataclass(frozen=True)
class SampleBlock:
    """The sample of a group as a block of a fit."""

    store: Store
    path: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2].removesuffix(".npy")

    def open(self) -> tuple[Matrix, Ints | None]:
        """See `reduce.kmeans.partition.Block`."""
        return read_npy(self.store, self.path), None


@dataclass(frozen=True)
class Train(PlainWork[str]):
    """Writes the trained index of one kind of vectors (the item), from centroids and the sample."""

    indexed: Indexed
    choice: Choice
    blocks: tuple[SampleBlock, ...]
    rows: int
    """Of all blocks."""
    centroids: str | None
    """Path of their file; None: there is one list."""

    @property
    def units(self) -> Units:
        return Units()

    def run(self, item: str) -> Facts:
        store, d = self.indexed.store, self.choice.dimension
        lists = np.zeros((1, d), np.float32) if self.centroids is None else np.asarray(read_npy(store, self.centroids))
        trained = TrainedIndex.of(self.choice, lists, self._codec_sample(), self.indexed.seed)
        store.write(trained_path(self.indexed.folder, item), trained.content)
        return {}

    def _codec_sample(self) -> Floats:
        """f32 [CODEC_ROWS or fewer, d]: evenly out of the sample; none where codes are not fitted."""
        if self.choice.kind not in (IVF_SQ, IVF_PQ):
            return np.zeros((0, self.choice.dimension), np.float32)
        step = max(1, -(-self.rows // CODEC_ROWS))
        parts: list[Matrix] = [np.zeros((0, self.choice.dimension), np.float16)]
        parts += [np.array(block.open()[0][::step]) for block in self.blocks]
        return unit(np.concatenate(parts))


def trained_path(folder: str, modality: str) -> str:
    """Where the trained index of a kind of vectors is."""
    return f"{folder}/{modality}.trained.index"


def train(site: Site, modalities: Sequence[str], choice: Choice) -> int:
    """Writes the trained index of each kind, and returns how many vectors they are trained on."""
    indexed, driver, groups = site
    store, missing = indexed.store, [m for m in modalities if not indexed.store.exists(trained_path(indexed.folder, m))]
    work = DrawSample(indexed, tuple(modalities), Split.of(choice, indexed.seed), choice.dimension)
    fitted = choice.lists > 1 or choice.kind in (IVF_SQ, IVF_PQ)
    if fitted:
        first, names = f"sample-{modalities[0]}-", store.names(indexed.scratch)
        done = {name.removeprefix(first).removesuffix(".npy") for name in names if name.startswith(first)}
        driver.complete("index: vectors to train on", work, groups, done, alone=len(groups) == 1)
    trained_on, little = 0, len(groups) <= 1 and choice.lists <= FEW_LISTS
    for modality in modalities:
        blocks = tuple(SampleBlock(store, sample_path(indexed, modality, group)) for group in groups) if fitted else ()
        sizes = store.sizes(indexed.scratch)
        trained_on = sum((sizes[f"{block.name}.npy"] - NPY_HEAD) // (2 * choice.dimension) for block in blocks)
        if modality in missing:
            centroids = fit_lists(indexed, driver, modality, blocks, choice) if choice.lists > 1 and trained_on else None
            driver.complete("index: codes", Train(indexed, choice, blocks, trained_on, centroids), [modality], (), alone=little)
    return trained_on


def fit_lists(indexed: Indexed, driver: Driver, modality: str, blocks: Sequence[SampleBlock], choice: Choice) -> str:
    """Writes the centroids of the lists, and returns the path of their file. It goes on from its last pass."""
    store, path = indexed.store, f"{indexed.scratch}/centroids-{modality}.npy"
    if store.exists(path):
        return path
    schedule = schedule_for(choice.lists)
    scratch = f"{indexed.scratch}/fit-{modality}"
    with ExitStack() as stack:
        fleet: Any = stack.enter_context(driver.executor.fleet(
            blocks, store, scratch, alone=fits_alone(choice.training_rows, choice.lists)))
        checkpoint = Checkpoint(store, scratch, {"folder": indexed.folder, "modality": modality})
        with driver.phase("index: lists", Scope(len(schedule.kinds), units=Units("pass"), at_most=True)):
            fit = Fit(fleet, schedule, choice.lists, indexed.seed, checkpoint, None, passes_told(driver.reporter)).run()
        fleet.write(fit.centres, store, path)
        checkpoint.clear()
    return path


def schedule_for(lists: int) -> Schedule:
    """The passes that fit so many lists: good ones, not the best; how good shows in the recall."""
    return replace(PRESETS["fast"], closing=False) if lists > FEW_LISTS else Schedule(exact=10, closing=False, changed=0.005)
