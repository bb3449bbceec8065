from typing import NamedTuple

import numpy as np
import pytest

from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.vectors import Floats, Ints, unit


class Stored(NamedTuple):
    """Every stored picture of a root."""

    ids: Ints
    vectors: Floats
    verdicts: tuple[str, ...]


@pytest.fixture(scope="session")
def stored(demo: Catalogue) -> Stored:
    """As `Found` numbers them."""
    ids, vectors, verdicts = [], [], []
    for number, shard in enumerate(demo.plan.shards):
        rows = demo.columns.vectors(shard.shard_id, "image_embedding")
        verdicts += demo.columns.read(shard.shard_id, ["verdict"])["verdict"].to_pylist()
        ids.append((number << 32) | np.arange(len(rows)))
        vectors.append(rows)
    return Stored(np.concatenate(ids), unit(np.concatenate(vectors)), tuple(verdicts))


def by_hand(stored: Stored, queries: Floats, k: int, among: np.ndarray | None = None) -> tuple[Ints, Floats]:
    """The k nearest by one product in float64 and one sort."""
    values = (queries.astype(np.float64) @ stored.vectors.astype(np.float64).T).astype(np.float32)
    values[:, ~stored.vectors.any(axis=1)] = -np.inf
    if among is not None:
        values[:, ~among] = -np.inf
    order = np.lexsort((np.broadcast_to(stored.ids, values.shape), -values), axis=1)[:, :k]
    similarities = np.take_along_axis(values, order, 1)
    return np.where(np.isfinite(similarities), stored.ids[order], -1), similarities
