"""Which publication of a root is the newest whole one: told by the two small files that a run writes last."""

import hashlib

from pipeline.errors import OutputError
from pipeline.root.existing import CURRENT
from pipeline.root.lifecycle import SUCCESS
from pipeline.store.store import Store


def publication(root: Store) -> str | None:
    """A name for what a root has published, made of the content of current.json and `_SUCCESS`; None while a run is at work, or
    where nothing was finished yet. Two small reads. Raises OutputError where the store does not answer."""
    try:
        parts = [root.read(CURRENT), root.read(SUCCESS)]
    except FileNotFoundError:
        return None
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def publication_or_none(root: Store) -> str | None:
    """The same; None also where the store does not answer now."""
    try:
        return publication(root)
    except OutputError:
        return None
