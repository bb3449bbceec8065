"""PyTorch's dataset over exported shards: each reader (a worker process of a rank) feeds batches of its share of the epoch.

Where an epoch stands is which positions of its order are not fed yet (`shares.py`): a few intervals, whatever was done, so another
number of ranks and workers can go on from there.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.errors import InputError
from pipeline.feed.order import Order
from pipeline.feed.pictures import Picture, RandomResizedCrop
from pipeline.feed.shares import Intervals, Share, Tail, split
from pipeline.feed.tars import Sample, Tars
from pipeline.models.pixels.decoding import BOMB, DAMAGE
from pipeline.vectors import Ints

log = logging.getLogger(__name__)

IMAGES = ("jpg", "jpeg", "png", "webp")
Batch = dict[str, Any]


@dataclass(frozen=True)
class Fields:
    """What a batch of b samples has beside `uid`, `key`, `caption` (lists of b texts)."""

    image: Picture | None = field(default_factory=RandomResizedCrop)
    """`image`: torch uint8 [b, 3, h, w] of what this gives; None: a list of b encoded images, as they lie in the tar."""
    tokens: Callable[[list[str]], torch.Tensor] | None = None
    """`tokens`: what this makes of the b captions, e.g. a tokenizer of open_clip: i64 [b, context]."""
    labels: int = 8
    """`labels`: i64 [b, this], the nearest class first, -1 where there are no more; `label_weights`: f32 [b, this], 0 there."""


class Feed(IterableDataset[Batch]):
    """Batches of the samples of a root or of an export's folder, each sample once in an epoch, for every number of ranks and
    workers. Give it to torch's DataLoader with batch_size=None, or to `Loader`, which knows where it stands.

    A batch also has `worker` and `positions`: which process made it, and how many positions of the order it stands for. A sample
    that cannot be decoded is left out, logged by name and listed in `skipped`.
    """

    def __init__(   # noqa: PLR0913 (keywords that a training script names)
        self, source: str, *, batch_size: int = 64, fields: Fields | None = None, seed: int = 0, shuffle: bool = True,
        block: int = 32, window: int = 2048, tail: Tail = "uneven", rank: int | None = None, world: int | None = None,
    ) -> None:
        """`block`, `window`: as `Order` has them; a worker holds the encoded bytes of one window. `tail`: as `shares.split`.
        `rank`, `world`: of this process, of torch.distributed where that is set up. Raises InputError, RootError for a source that
        has no tars, ValueError for numbers that do not go together."""
        self.tars = Tars.of(source)
        self.batch_size, self.fields, self.tail = batch_size, fields or Fields(), tail
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = rank if rank is not None else torch.distributed.get_rank() if distributed else 0
        self.world = world if world is not None else torch.distributed.get_world_size() if distributed else 1
        if batch_size < 1 or not 0 <= self.rank < self.world:
            raise ValueError(f"batch_size={batch_size}, rank={self.rank} of {self.world}: no such batch or rank")
        split((), 1, tail)
        self._settings = {"seed": seed, "shuffle": shuffle, "block": block, "window": window}
        self.epoch = 0
        self.left: Intervals = ((0, self.order().total),)
        """Of the epoch, for all readers together; ignored where `shares` are."""
        self.shares: tuple[Share, ...] | None = None
        """Of the workers of this rank, where it goes on in the middle of an epoch."""

    def order(self) -> Order:
        """Of the current epoch."""
        return self.tars.order(epoch=self.epoch, **self._settings)

    def share(self, worker: int, workers: int) -> Share:
        """What this worker of this rank feeds."""
        if self.shares is not None and len(self.shares) == workers:
            return self.shares[worker]
        if self.shares is not None:
            raise InputError(f"the state is of {len(self.shares)} workers, and there are {workers}: load it by Loader")
        return split(self.left, self.world * workers, self.tail)[self.rank * workers + worker]

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        if info:
            self.tars = self.tars.again()
        share, order = self.share(worker, workers), self.order()
        batch: list[dict[str, Any]] = []
        skipped: list[str] = []
        positions = 0
        for sample, position in self._samples(order, share):
            positions += 1
            try:
                batch.append(self._decoded(sample, np.random.default_rng([order.seed % 2**64, order.epoch, position])))
            except (InputError, *DAMAGE, *BOMB) as error:
                skipped.append(f"{sample.shard}:{sample.key}")
                log.warning("%s, sample %s: skipped: %s: %s", sample.shard, sample.key, type(error).__name__, error)
            if positions == self.batch_size:
                yield self._batch(batch, skipped, worker, positions)
                batch, skipped, positions = [], [], 0
        if positions:
            yield self._batch(batch, skipped, worker, positions)

    def _samples(self, order: Order, share: Share) -> Iterator[tuple[Sample, int]]:
        """The samples of a share in order, each with its number among all."""
        for start, stop in (*share.own, *share.again):
            for numbers in order.windows(start, stop):
                samples = self._read(order, numbers)
                for number in numbers.tolist():
                    yield samples[number], number

    def _read(self, order: Order, numbers: Ints) -> Mapping[int, Sample]:
        """Samples by their numbers, i64[n]; read shard by shard."""
        ordered = np.sort(numbers)
        shard, row = order.located(ordered)
        places = zip(ordered.tolist(), shard.tolist(), row.tolist(), strict=True)
        found: dict[int, Sample] = {}
        for number, group in groupby(places, key=lambda place: place[1]):
            there = list(group)
            samples = self.tars.samples(number, [row for _, _, row in there])
            found.update(zip((number for number, _, _ in there), samples, strict=True))
        return found

    def _decoded(self, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        encoded = next((sample.members[extension] for extension in IMAGES if extension in sample.members), None)
        if encoded is None:
            raise InputError(f"no image among {', '.join(sample.members)}")
        facts = sample.facts
        image = encoded if self.fields.image is None else self.fields.image(encoded, rng)
        return {"image": image, "caption": sample.caption, "key": sample.key, "uid": str(facts.get("uid", "")),
                "labels": facts.get("labels") or [], "label_weights": facts.get("label_weights") or []}

    def _batch(self, samples: Sequence[Mapping[str, Any]], skipped: list[str], worker: int, positions: int) -> Batch:
        columns: Batch = {name: [sample[name] for sample in samples] for name in ("image", "caption", "key", "uid")}
        if self.fields.image is not None:
            columns["image"] = torch.from_numpy(np.stack(columns["image"])) if samples else torch.empty(0, dtype=torch.uint8)
        if self.fields.tokens is not None:
            columns["tokens"] = self.fields.tokens(columns["caption"])
        labels = np.full((len(samples), self.fields.labels), -1, np.int64)
        weights = np.zeros((len(samples), self.fields.labels), np.float32)
        for row, sample in enumerate(samples):
            count = min(len(sample["labels"]), self.fields.labels)
            labels[row, :count], weights[row, :count] = sample["labels"][:count], sample["label_weights"][:count]
        columns |= {"labels": torch.from_numpy(labels), "label_weights": torch.from_numpy(weights)}
        return columns | {"skipped": skipped, "worker": worker, "positions": positions}
