"""What to do with an input in which no shard was found because it is loose: images, a table of paths, a table of URLs."""

import os
import re
from collections.abc import Iterator
from itertools import islice

from pipeline.errors import InputError
from pipeline.input.loose.columns import Columns, NamesUrls
from pipeline.input.loose.commands import by_url, packing
from pipeline.input.loose.items import is_image, shown
from pipeline.input.loose.tables import is_table, table_items
from pipeline.store.store import Store, absolute, is_folder, open_url

LIST = re.compile(r"\.txt(\.gz)?\Z", re.IGNORECASE)
LOOKED_AT = 10_000
"""Names that are looked at below a folder."""


def loose_advice(pattern: str) -> str:
    """What to do with an input in which no shard was found: the end of a sentence, empty where it is not a loose input either."""
    try:
        return _advice(absolute(pattern))
    except (InputError, OSError, ValueError):
        return ""   # what is wrong with it was said before


def _advice(url: str) -> str:
    name = url.rpartition("/")[2]
    if url.startswith(("http://", "https://")):
        return ""
    if any(c in name for c in "*?[{") and not is_folder(url):   # *.jpg
        url, name = url.rpartition("/")[0], ""
    if is_folder(url):
        paths = [path for path in islice(_below(url), LOOKED_AT) if is_image(path) or is_table(path)]
        found = next((path for path in paths if is_table(path) and "/" not in path), next(iter(paths), None))
        return "" if found is None else _table(f"{url}/{found}", "it holds the table") if is_table(found) else (
            f"; it holds loose images ({shown(found)}): {packing(url)}")
    if is_table(name):
        return _table(url, "it is the table")
    if LIST.search(name) and _begins_with_url(url):
        return f"; it is a list of URLs: {by_url(url, 'url', None)}"
    return f"; it is an image: name its folder or a table of paths, and {packing(url.rpartition('/')[0])}" if is_image(name) else ""


def _table(url: str, what: str) -> str:
    name = shown(url.rpartition("/")[2])
    try:
        next(table_items(url, Columns()), None)
    except NamesUrls as error:
        return f"; {what} {name}: {str(error).removeprefix(f'input {url!r}: ')}"
    except InputError:
        if name.lower().endswith(".parquet"):   # a table of something else
            return ""
    return f"; {what} {name}: {packing(url)}"


def _begins_with_url(url: str) -> bool:
    if url.lower().endswith(".gz"):
        return True
    with open_url(url, scattered=True) as file:
        return file.read(16).lstrip(b"\xef\xbb\xbf \r\n").lower().startswith((b"http://", b"https://"))


def _below(url: str, folder: str = "") -> Iterator[str]:
    """Files below a folder, those nearest first; hidden ones aside."""
    store = Store(url)
    if store.local is None:
        names, folders = store.names(folder), store.folders(folder)
    else:
        with os.scandir(os.path.join(store.local, folder)) as entries:
            seen = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(entries, LOOKED_AT)]
        names, folders = sorted(n for n, is_dir in seen if not is_dir), sorted(n for n, is_dir in seen if is_dir)
    inside = f"{folder}/" if folder else ""
    yield from (f"{inside}{name}" for name in names if not name.startswith("."))
    for one in folders:
        if not one.startswith("."):
            yield from _below(url, f"{inside}{one}")
