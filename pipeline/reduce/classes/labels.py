"""Multi-label pseudo-classes: the nearest few classes of a sample, with weights (MLCD, arXiv 2407.17331, section 3.2).

MLCD itself treats its l = 8 labels alike; the weights are ours, for trainers that want soft targets.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.search.nearest import Centres, nearest
from pipeline.vectors import Floats


@dataclass(frozen=True)
class LabelRule:
    """Which classes label a sample. The nearest one always does, so every labelled sample has at least one label."""

    max_labels: int = 8
    """l: labels per sample, at most (fewer where there are fewer classes)."""
    floor: float | None = None
    """Classes below this cosine are left out; null keeps all l."""
    temperature: float = 0.1
    """Weights are softmax(cosine / temperature) over the labels chosen. MLCD gives none; 0.1 makes a class 0.1 nearer
    weigh e times more."""

    def __post_init__(self) -> None:
        if self.max_labels < 1 or self.temperature <= 0:
            raise InputError(f"labels need at least one class and a positive temperature, not {self}")


@dataclass(frozen=True)
class Labels:
    """Labels of n samples, ragged: those of sample i are the first `count[i]` of row i."""

    ids: NDArray[np.int32]
    """i32[n, l]: positions of centroids, best first, equal cosines by the lower one."""
    similarity: Floats
    """f32[n, l]: the cosine to each."""
    weights: NDArray[np.float16]
    """f16[n, l], zero beyond `count`; each row sums to 1 within 2^-12 (float16 rounds)."""
    count: NDArray[np.int32]
    """i32[n]"""


NONE = Labels(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float16), np.zeros(0, np.int32))
"""The labels of no samples."""


def labelled(x: Floats, centroids: Centres | Floats, rule: LabelRule) -> Labels:
    """Labels of unit rows x, f32[n, d]: of the nearest centroids f32[k, d], or of those that a search made ready
    (`inverted_file.Search.centres`) finds; worth making ready once for several x."""
    k = len(centroids) if isinstance(centroids, np.ndarray) else len(centroids.vectors)
    ids, similarity = nearest(x, centroids, min(rule.max_labels, k))
    chosen = np.ones(ids.shape, bool) if rule.floor is None else similarity >= np.float32(rule.floor)
    chosen[:, 0] = True
    return Labels(ids, similarity, _weights(similarity, chosen, rule.temperature), chosen.sum(axis=1, dtype=np.int32))


def _weights(similarity: Floats, chosen: NDArray[np.bool_], temperature: float) -> NDArray[np.float16]:
    """Softmax over the chosen; what rounding to float16 loses goes to the first, which is the largest."""
    lead = (similarity - similarity[:, :1]).astype(np.float64)
    raw = np.where(chosen, np.exp(lead / temperature), 0)
    weights: NDArray[np.float16] = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float16)
    weights[:, 0] = 1 - weights[:, 1:].sum(axis=1, dtype=np.float64)
    return weights
