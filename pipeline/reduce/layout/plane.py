"""A place in the plane for every embedding, so that neighbours stay neighbours: t-SNE over the graph of nearest neighbours, begun
from the two widest principal components, which keeps the large outline (Kobak and Berens 2019, "The art of using t-SNE for
single-cell transcriptomics"). The steps are openTSNE's (Poličar, Stražar and Zupan 2024).
"""

import warnings

import numpy as np

from pipeline.search.graph.neighbours import nearest_others
from pipeline.vectors import Floats, Matrix

COMPONENTS, NEIGHBOURS = 50, 15
EARLY, LATE = 100, 200
"""Steps with attraction twelvefold, then as it is: half of the usual numbers, after which a hundred thousand points hardly move."""
EQUAL = 1e-6
"""Differences of unit rows that are rounding alone."""
INTERPOLATED_ROWS = 5_000
"""From so many rows on, repulsion from a grid is cheaper than from a tree."""


def plane(vectors: Matrix, seed: int = 0) -> Floats:
    """f32 [n, 2] within -1..1, centred: a place for each of the vectors [n, d], none of them zero rows.

    The same for the same vectors and seed on one machine (another kind of processor may turn or mirror it). One thread;
    what 100,000 x 512 take is in docs/explorer.md. Few rows, fewer than there would be neighbours, stand where
    their principal components put them; equal ones all in the middle.
    """
    components = _components(np.asarray(vectors, np.float32))
    if len(components) <= NEIGHBOURS + 1 or not components.any():
        return _within(_widened(components[:, :2]))
    return _within(_unfolded(components, seed))


def _components(rows: Floats) -> Floats:
    """f32 [n, min(d, COMPONENTS)]: principal components, the widest first, each with its largest coefficient positive."""
    if not len(rows):
        return rows[:, :COMPONENTS]
    centred = rows - rows.mean(axis=0)
    if np.abs(centred).max() < EQUAL:
        return np.zeros((len(rows), min(rows.shape[1], COMPONENTS)), np.float32)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :COMPONENTS]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.ascontiguousarray(centred @ (axes * signs), np.float32)


def _widened(components: Floats) -> Floats:
    """f32 [n, 2], where there may be one component alone."""
    return np.hstack([components, np.zeros((len(components), 2 - components.shape[1]), np.float32)])


def _unfolded(components: Floats, seed: int) -> Floats:
    from openTSNE import TSNEEmbedding  # takes a second, and most processes never draw
    from openTSNE.affinity import Uniform
    from openTSNE.initialization import rescale
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    nearest = nearest_others(components, NEIGHBOURS, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows with fewer neighbours, which stay where they are
        graph = Uniform(knn_index=PrecomputedNeighbors(nearest.rows, nearest.distances), k_neighbors=NEIGHBOURS, n_jobs=1)
        embedding = TSNEEmbedding(
            rescale(_widened(components[:, :2]).astype(np.float64)), graph, n_jobs=1, random_state=seed,
            negative_gradient_method="fft" if len(components) >= INTERPOLATED_ROWS else "bh")
        embedding = embedding.optimize(EARLY, exaggeration=12, momentum=0.5, learning_rate="auto")
        embedding = embedding.optimize(LATE, momentum=0.8, learning_rate="auto")
    return np.asarray(embedding, np.float32)


def _within(places: Floats) -> Floats:
    """Centred, and scaled alike in both directions to -1..1."""
    if not len(places):
        return places
    low, high = places.min(axis=0), places.max(axis=0)
    reach = float((high - low).max()) / 2
    return np.asarray((places - (low + high) / 2) / (reach or 1), np.float32)
