"""The facts in footers of remote tables, kept in this process for as long as a run lasts, for several passes ask for the same.

Whoever keeps them is the one that writes and removes these files, or has others write only what was not there: so none goes stale.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

LIMIT = 128 << 20
"""Bytes that are kept; those that came first, for each pass asks for all from first to last."""

_kept: dict[str, bytes] | None = None
_size = 0
_lock = Lock()


@contextmanager
def footers_kept() -> Iterator[None]:
    """While the block runs, a footer is asked for once."""
    global _kept, _size
    before, _kept, _size = _kept, {}, 0
    try:
        yield
    finally:
        _kept, _size = before, 0


def kept(url: str, read: Callable[[], bytes]) -> bytes:
    """The facts of the table at a URL, as they are stored."""
    global _size
    held = _kept
    if held is None:
        return read()
    if url not in held:
        facts = read()
        with _lock:
            if url not in held and _size + len(facts) + len(url) <= LIMIT:
                held[url], _size = facts, _size + len(facts) + len(url)
        return facts
    return held[url]


def forget(url: str) -> None:
    """A file was made anew or removed."""
    if _kept is not None:
        with _lock:
            _kept.pop(url, None)
