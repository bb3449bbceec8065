"""A DataLoader over a `Feed` that knows, batch by batch, what of the epoch was handed out, and goes on from there exactly."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch.utils.data import DataLoader

from pipeline.errors import InputError
from pipeline.feed.dataset import Batch, Feed
from pipeline.feed.shares import Share, merged, split

State = Mapping[str, Any]


class Loader:
    """Batches of a feed by worker processes, epoch after epoch.

    `state_dict()` says what the batches handed out so far leave of the epoch; a batch that a worker has made and nobody has taken
    is not done. Loaded by the same number of ranks and workers, the batches go on in the same order; by others, every sample that
    is left comes once.
    """

    def __init__(self, feed: Feed, *, workers: int = 0, prefetch: int = 2, **options: Any) -> None:
        """`workers`: processes of this rank, 0: this one; `prefetch`: batches that each makes ahead; `options`: of torch's
        DataLoader, e.g. pin_memory."""
        self.feed, self.workers = feed, workers
        self._options = {**options, **({"prefetch_factor": prefetch} if workers else {})}
        self._shares = self._planned()
        self._turn = 0
        """The worker whose batch comes next."""

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0."""
        return self.feed.epoch

    def __len__(self) -> int:
        """Batches that are left of the epoch."""
        return sum(-(-len(share) // self.feed.batch_size) for share in self._shares)

    def __iter__(self) -> Iterator[Batch]:
        """The batches that are left of the epoch; after the last one, the next epoch begins."""
        begun = self._turn   # torch asks its first process first
        self.feed.shares = self._shares[begun:] + self._shares[:begun]
        loader = DataLoader(self.feed, batch_size=None, num_workers=self.workers, **self._options)
        for batch in _named(loader):
            turn, shares = (batch["worker"] + begun) % len(self._shares), list(self._shares)
            shares[turn] = shares[turn].after(batch["positions"])
            self._shares, self._turn = tuple(shares), (turn + 1) % len(shares)
            yield batch
        self._begin(self.feed.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Where this rank stands; plain numbers and texts, which JSON or torch.save take."""
        return {
            "epoch": self.feed.epoch, "rank": self.feed.rank, "world": self.feed.world, "samples": self._samples(),
            "turn": self._turn,
            "shares": [{name: [list(interval) for interval in intervals] for name, intervals in asdict(share).items()}
                       for share in self._shares],
        }

    def load_state_dict(self, state: State | Sequence[State]) -> None:
        """Goes on from a state. Where there are as many ranks as then, the state of this rank is enough; else give those of all
        ranks, in a list. Raises InputError for states of other samples or settings, or where one is missing."""
        states = [state] if isinstance(state, Mapping) else list(state)
        if not states or any(other["samples"] != self._samples() or other["epoch"] != states[0]["epoch"] for other in states):
            raise InputError("the state is of other samples, another order, or of several epochs: load what this feed has saved")
        world = states[0]["world"]
        own = [other for other in states if (other["rank"], other["world"]) == (self.feed.rank, self.feed.world)]
        if not own and sorted(other["rank"] for other in states) != list(range(world)):
            missing = set(range(world)) - {other["rank"] for other in states}
            raise InputError(f"the state of rank {min(missing, default=0)} of {world} is missing: with another number of ranks, "
                             "load the states of all of them")
        self._begin(states[0]["epoch"])
        if own:
            shares = tuple(_share(stored) for stored in own[0]["shares"])
            if len(shares) == len(self._shares):
                self._turn = int(own[0]["turn"])
            else:
                shares = split(merged([share.own + share.again for share in shares]), len(self._shares))
            self._shares = shares
        else:
            ordered = sorted(states, key=lambda other: int(other["rank"]))
            self.feed.left = merged([_share(stored).own for other in ordered for stored in other["shares"]])
            self._shares = self._planned()

    def _begin(self, epoch: int) -> None:
        self.feed.epoch, self.feed.shares = epoch, None
        self.feed.left = ((0, self.feed.order().total),)
        self._shares, self._turn = self._planned(), 0

    def _planned(self) -> tuple[Share, ...]:
        workers = max(1, self.workers)
        self.feed.shares = None
        return tuple(self.feed.share(worker, workers) for worker in range(workers))

    def _samples(self) -> str:
        """What the order follows from, but for the epoch, as a short text."""
        order = self.feed.order()
        facts = [self.feed.tars.names, self.feed.tars.counts, order.seed, order.block, order.window, order.shuffle]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _named(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches; of a worker that ends while one of its batches is taken over, torch tells only that a connection broke."""
    try:
        yield from batches
    except (ConnectionError, EOFError) as error:
        raise RuntimeError(f"a worker process of the loader exited unexpectedly ({error or type(error).__name__})") from error


def _share(stored: Mapping[str, Sequence[Sequence[int]]]) -> Share:
    own, again = (tuple((int(start), int(stop)) for start, stop in stored[name]) for name in ("own", "again"))
    return Share(own, again)
