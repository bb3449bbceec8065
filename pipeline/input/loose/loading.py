"""The bytes of candidates, read by several threads some way ahead, handed out in order."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from pipeline.input.loose.below import Below, Refused
from pipeline.input.loose.items import Candidate, Item, LeftOut, extension_of, is_image
from pipeline.input.loose.tally import Loaded
from pipeline.input.parquet import MAGIC
from pipeline.input.samples import MAX_IMAGE, MAX_TEXT

THREADS = 8
AHEAD = 16
"""Samples in memory at once: a store is waited for by several threads."""


class Read(NamedTuple):
    """An item and what came of it."""

    item: Item
    result: Loaded | LeftOut
    versions: str
    """Of its files, as `versions` has them."""


class Ahead:
    """Iterates once over what became of the items, in their order. A context manager: its end ends the threads."""

    def __init__(self, items: Iterable[tuple[Item, Below]]) -> None:
        self._items = iter(items)
        self._pool = ThreadPoolExecutor(THREADS)
        self._waiting: deque[Future[Read] | Read] = deque()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Read]:
        return self

    def __next__(self) -> Read:
        for item, below in islice(self._items, AHEAD - len(self._waiting)):
            if isinstance(item, LeftOut):
                self._waiting.append(Read(item, item, ""))
            else:
                self._waiting.append(self._pool.submit(load, item, below))
        if not self._waiting:
            raise StopIteration
        read = self._waiting.popleft()
        return read if isinstance(read, Read) else read.result()


def load(candidate: Candidate, below: Below) -> Read:
    """Reads a candidate; left out where one of its files is not to be read, or its image is none."""
    try:
        image, version = below.read(candidate.image, MAX_IMAGE)
        known = [version]
        caption, original = candidate.caption, candidate.row
        if candidate.text is not None:
            caption, version = below.read(candidate.text, MAX_TEXT)
            known.append(version)
        if candidate.json is not None:
            original, version = below.read(candidate.json, MAX_TEXT)
            known.append(version)
    except Refused as refused:
        return Read(candidate, LeftOut(refused.why, candidate.named), versions(candidate, below))
    extension: str | None = extension_of(candidate.image)
    if not is_image(candidate.image):   # of a table: a folder's images are known by their names
        extension = next((kind for magic, kind in MAGIC.items() if image.startswith(magic)), None)
    if extension is None:
        return Read(candidate, LeftOut("not_an_image", candidate.named), versions(candidate, below))
    return Read(candidate, Loaded(candidate, extension, image, caption, original), " ".join(known))


def versions(item: Item, below: Below) -> str:
    """The versions of the files of an item, without reading them."""
    if isinstance(item, LeftOut):
        return ""
    return " ".join(below.version(path) for path in (item.image, item.text, item.json) if path is not None)
