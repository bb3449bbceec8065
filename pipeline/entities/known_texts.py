"""Vectors of entities that a table of another recipe in the same root already has: a text is embedded once."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.entities.table import CALIBRATION, CHOOSING, CONFIRMING, ENTITIES
from pipeline.store.store import Store
from pipeline.store.tables import read_npy, read_table


@dataclass(frozen=True)
class Vectors:
    """The two vectors of some of a list of entities."""

    places: NDArray[np.int64]
    """[n]: where these entities stand in the list, ascending"""
    choosing: NDArray[np.float16]
    """[n, d], unit rows"""
    confirming: NDArray[np.float16]
    """[n, d], unit rows"""


Known = Callable[[Sequence[str]], Iterable[Vectors]]
"""Entity ids -> the vectors that need not be made; no entity twice."""


def none_known(ids: Sequence[str]) -> Iterable[Vectors]:
    """For a table that stands alone."""
    return ()


def stored_vectors(store: Store, folders: Iterable[str], texts: str, ids: Sequence[str]) -> Iterator[Vectors]:
    """What the finished tables in these folders have of the entities, if their `texts` are the same (`EntityTable.texts`). A table
    that is not what was written is left out: it belongs to another recipe, and this one does without it."""
    missing = {id: place for place, id in enumerate(ids)}
    for folder in folders:
        if missing and _is_whole(store, folder, texts):
            stored = read_table(store, f"{folder}/{ENTITIES}").column("id").to_pylist()
            pairs = sorted((missing.pop(id), row) for row, id in enumerate(stored) if id in missing)
            if pairs:
                places, rows = np.array(pairs, np.int64).T
                yield Vectors(places, *(np.asarray(read_npy(store, f"{folder}/{file}"))[rows] for file in (CHOOSING, CONFIRMING)))


def _is_whole(store: Store, folder: str, texts: str) -> bool:
    path = f"{folder}/{CALIBRATION}"
    try:
        record = store.read_json(path) if store.exists(path) else {}
        return record.get("texts") == texts and all(
            hashlib.sha256(store.read(f"{folder}/{name}")).hexdigest() == record["files"][name]
            for name in (ENTITIES, CHOOSING, CONFIRMING))
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
        return False
