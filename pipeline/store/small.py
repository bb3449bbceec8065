"""A small file anywhere, read whole: who gives a URL waits for the answer, so it is tried for seconds only."""

from typing import Any

from pipeline.errors import InputError
from pipeline.store.places import resolved
from pipeline.store.retries import Backoff, Exhausted, described, failures, retried

SOON = Backoff(tries=3, base=0.5, cap=1.0, seconds=3.0)


def read_small(url: str, limit: int) -> bytes:
    """The content of a file; of one that is larger than `limit`, a few bytes more than that and no more. Raises FileNotFoundError
    and its like, and InputError for what cannot be read otherwise."""
    fs, path = resolved(url)
    try:
        return retried(lambda: _first(fs, path, limit + 1), url, SOON)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise
    except failures(Exhausted) as error:
        raise InputError(f"{url} cannot be read: {error if isinstance(error, Exhausted) else described(error)}") from error


def _first(fs: Any, path: str, count: int) -> bytes:
    content = b""
    with fs.open(path, "rb") as file:   # from a web server without ranges it is a stream, which gives less than it is asked for
        while len(content) < count and (part := file.read(count - len(content))):
            content += part
    return content
