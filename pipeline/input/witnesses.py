"""Whose fault it is that an input cannot be read: its own, or that of the store, where no other input can be read either."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import InputError, SourceError
from pipeline.input.discovery import Shard
from pipeline.quantities import counted
from pipeline.store.store import answers, mount

WITNESSES = 8
"""Inputs of a store that are asked for a byte when one fails."""

Witnesses = Mapping[str, tuple[str, ...]]
"""URLs of inputs, by the store that they are in (`store.mount`)."""


def witnesses(shards: Sequence[Shard]) -> Witnesses:
    """Some inputs of each store, from its first to its last: one more than are asked, for one may be the one that fails."""
    folders = {shard.url.rpartition("/")[0]: shard.url for shard in shards}
    mounts = {folder: mount(url) for folder, url in folders.items()}
    by_mount: dict[str, list[str]] = {}
    for shard in shards:
        by_mount.setdefault(mounts[shard.url.rpartition("/")[0]], []).append(shard.url)
    count = WITNESSES + 1
    return {place: tuple(dict.fromkeys(urls[i * len(urls) // count] for i in range(count))) for place, urls in by_mount.items()}


def to_blame(error: Exception, url: str, known: Witnesses) -> Exception:
    """An InputError of this one where another input of its store can be read; a SourceError where none can; the error itself where
    nobody knows."""
    place = max((place for place in known if url.startswith(place)), key=len, default="")
    others = [other for other in known.get(place, ()) if other != url][:WITNESSES]
    if isinstance(error, SourceError) or not others:
        return error
    said = str(error) if url in str(error) else f"{url}: {error}"
    with ThreadPoolExecutor(len(others)) as pool:
        if any(pool.map(answers, others)):
            return InputError(said)
    also = f"nor can {others[0]}" + (f" and {counted(len(others) - 1, 'other')} that were asked" if len(others) > 1 else "")
    where = place if "://" in place else os.path.commonpath([url, *others])
    return SourceError(f"{said}; {also} be read: see to {where}, then run the same command again")
