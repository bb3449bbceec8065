"""What the routes share: the roots, threads for what blocks, and queries that are answered together."""

import asyncio
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, NamedTuple, TypeVar

import numpy as np
from fastapi import Depends, Request

from pipeline.errors import InputError, RootError
from pipeline.serve.batching import Batcher
from pipeline.serve.explorer.maps import Maps
from pipeline.serve.guards.fetching import Fetcher
from pipeline.serve.guards.gate import Work
from pipeline.serve.guards.pictures import PictureGuard, picture_guard
from pipeline.serve.metrics import Metrics
from pipeline.serve.problems import Refused
from pipeline.serve.roots.opened import OpenedRoot
from pipeline.serve.roots.roots import Roots
from pipeline.serve.settings import Settings
from pipeline.vectors import Floats, Ints
from schemas.answers.neighbours import Hit
from schemas.answers.serving import Modality

T = TypeVar("T")
TEXTS_TOGETHER = 16


class Wanted(NamedTuple):
    """What a search is for, but for its vector: queries of one Wanted are asked together."""

    root: OpenedRoot
    modality: Modality
    verdict: str
    where: tuple[tuple[str, Hashable], ...]
    """column and bound, the bound as a tuple that can be compared"""
    effort: int | None
    most: int
    """hits, rounded up to a power of two, so that queries for ten do not wait for one that wants thousands"""


class Asked(NamedTuple):
    """One query of a batch."""

    vector: Floats
    """f32 [d]"""
    k: int
    shown: int
    """of the nearest, whose columns are read"""
    bounds: dict[str, object]
    """of `Wanted.where`, as `Catalogue.nearest` takes them"""


class Nearest(NamedTuple):
    """What one query found, nearest first."""

    ids: Ints
    """i64 [n], n <= k"""
    similarities: Floats
    """f32 [n]"""
    exact: bool
    hits: tuple[Hit, ...]
    """what is known of the first of them"""


@dataclass
class Service:
    """One application's. Made outside of the event loop, used in it."""

    settings: Settings
    roots: Roots
    metrics: Metrics
    fetcher: Fetcher
    guard: PictureGuard
    work: Work
    pool: Executor
    """for what reads files and decodes pictures"""
    searches: Batcher[Asked, Nearest] = field(init=False)
    texts: Batcher[str, Floats] = field(init=False)
    maps: Maps = field(default_factory=Maps)
    stopping: bool = False

    def __post_init__(self) -> None:
        settings, batches = self.settings, self.metrics.batches
        self.searches = Batcher(
            self._search, self.pool, settings.batch_queries, settings.batch_seconds,
            told=batches.labels("search").observe, expected=lambda: self.work.requests)
        self.texts = Batcher(
            self._encode, self.pool, TEXTS_TOGETHER, settings.batch_seconds, told=batches.labels("text").observe,
            expected=lambda: self.work.requests)

    @classmethod
    @contextmanager
    def opened(cls, roots: Roots, work: Work) -> "Iterator[Service]":
        """With its threads and the guarded decoder, which end with the block."""
        settings = roots.settings
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(settings.threads + 2, "serve"))
            guard = stack.enter_context(picture_guard(settings))
            fetcher = Fetcher(settings.image_hosts, settings.picture_bytes, settings.fetch_seconds)
            service = cls(settings, roots, roots.metrics, fetcher, guard, work, pool)
            stack.callback(service.maps.close)
            yield service

    async def do(self, root: OpenedRoot, action: Callable[..., T], *arguments: object) -> T:
        """What `action` returns, which runs in a thread. Raises Refused for its errors, in words without paths of this machine."""
        with told(root):
            return await asyncio.get_running_loop().run_in_executor(self.pool, action, *arguments)

    async def encoded(self, root: OpenedRoot, texts: Sequence[str]) -> list[Floats]:
        """Unit vectors f32 [d] of texts, made together with those of other requests."""
        self.check_encoder("text")
        for text in texts:
            if not text.strip():
                raise Refused(400, "the text is empty: say in words what to look for", field="text")
        with told(root), self.metrics.clock("text_clip_inference_time"):
            return list(await asyncio.gather(*(self.texts.ask(root, text) for text in texts)))

    def check_encoder(self, field: str) -> None:
        """Raises Refused where the service has no model."""
        if not self.settings.encoder:
            raise Refused(400, "this service has no model: ask by uid, class_id, entity or vector", field=field, code="no_encoder")

    async def nearest(self, wanted: Wanted, asked: Asked) -> Nearest:
        """The samples nearest to a vector, asked together with other requests."""
        with told(wanted.root):
            return await self.searches.ask(wanted, asked)

    def _search(self, wanted: Hashable, asked: Sequence[Asked]) -> list[Nearest]:
        """The neighbours of all, and what is known of them: one call each."""
        assert isinstance(wanted, Wanted)
        catalogue = wanted.root.catalogue
        with self.metrics.clock("knn_index_time"):
            found = catalogue.nearest(
                np.stack([one.vector for one in asked]), max(one.k for one in asked), modality=wanted.modality,
                where=asked[0].bounds, verdict=wanted.verdict, effort=wanted.effort)
        counts = np.minimum((found.ids >= 0).sum(axis=1), [one.k for one in asked]).tolist()
        shown = [min(count, one.shown) for count, one in zip(counts, asked, strict=True)]
        ids = np.concatenate([row[:count] for row, count in zip(found.ids, shown, strict=True)])
        similarities = np.concatenate([row[:count] for row, count in zip(found.similarities, shown, strict=True)])
        with self.metrics.clock("metadata_get_time"):
            hits = iter(catalogue.hits(ids, similarities) if len(ids) else ())
        return [
            Nearest(found.ids[row, :count], found.similarities[row, :count], found.exact, tuple(islice(hits, shown[row])))
            for row, count in enumerate(counts)]

    def _encode(self, root: Hashable, texts: Sequence[str]) -> list[Floats]:
        assert isinstance(root, OpenedRoot)
        return list(root.catalogue.encode_text(texts))


@contextmanager
def told(root: OpenedRoot) -> Iterator[None]:
    """Within it, errors of what a root is asked are Refused: in words without paths of this machine."""
    try:
        yield
    except (RootError, FileNotFoundError) as error:
        raise Refused(503, "this root cannot answer that now: it has no such output, or a later run has taken its place", retry=1,
                      code="root_changed") from error
    except InputError as error:
        raise Refused(400, root.told(str(error))) from error


async def service_of(request: Request) -> Service:   # async: another one would wait for a thread
    """The service of the application that a request came to."""
    service: Service = request.app.state.service
    return service


Shared = Annotated[Service, Depends(service_of)]
