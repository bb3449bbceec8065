"""Two clusterings of the same samples: how many samples each pair of classes shares, and how far the clusterings agree."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Ints

AMI_CELLS = 1 << 22      # pairs of classes, and
AMI_SAMPLES = 1 << 24    # samples, beyond which the chance level of mutual information takes minutes


@dataclass(frozen=True)
class Overlap:
    """Samples present in both fits, counted by their two classes: parallel arrays, each pair of positions once."""

    old: Ints
    """i64[p]: positions (not ids) among the old centroids."""
    new: Ints
    """i64[p]: positions among the new centroids."""
    rows: Ints
    """i64[p]: how many samples have these two classes; at least 1."""

    @staticmethod
    def of(old: NDArray[np.integer], new: NDArray[np.integer]) -> "Overlap":
        """The overlap by the classes of the same samples in both fits, [n] each; samples without a class (< 0) do not count."""
        common = (old >= 0) & (new >= 0)
        return _tallied(old[common].astype(np.int64), new[common].astype(np.int64), np.ones(int(common.sum()), np.int64))

    @staticmethod
    def joined(parts: "Sequence[Overlap]") -> "Overlap":
        """The overlap over disjoint sets of samples together; the order of the parts makes no difference."""
        nothing = np.zeros(0, np.int64)
        return _tallied(*(np.concatenate([nothing, *(getattr(part, f.name) for part in parts)]) for f in fields(Overlap)))

    def totals(self, side: Ints, k: int) -> Ints:
        """i64[k]: common samples of each of the k classes of one side, `self.old` or `self.new`."""
        result = np.zeros(k, np.int64)
        np.add.at(result, side, self.rows)
        return result


def _tallied(old: Ints, new: Ints, rows: Ints) -> Overlap:
    width = int(new.max(initial=0)) + 1
    pair, place = np.unique(old * width + new, return_inverse=True)
    result = Overlap(pair // width, pair % width, np.zeros(len(pair), np.int64))
    np.add.at(result.rows, place, rows)
    return result


def adjusted_agreement(overlap: Overlap | None) -> tuple[float | None, float | None]:
    """Adjusted Rand index and adjusted mutual information of two fits over their common samples; (None, None) without any.

    The first is exact for any size. The second is None beyond AMI_CELLS pairs of classes or AMI_SAMPLES samples.
    """
    if overlap is None or not len(overlap.rows):
        return None, None
    from sklearn.metrics import adjusted_mutual_info_score  # takes a second to import

    old, new = (np.unique(side, return_inverse=True)[1] for side in (overlap.old, overlap.new))
    count = int(overlap.rows.sum())
    ami = None
    if (int(old.max()) + 1) * (int(new.max()) + 1) <= AMI_CELLS and count <= AMI_SAMPLES:
        ami = float(adjusted_mutual_info_score(np.repeat(old, overlap.rows), np.repeat(new, overlap.rows)))
    return rand_index(overlap), ami


def rand_index(overlap: Overlap) -> float:
    """The adjusted Rand index (Hubert and Arabie 1985): 0 by chance, 1 for the same division; exact, in whole numbers."""
    def pairs_within(counts: Ints) -> int:
        return sum(size * (size - 1) // 2 for size in counts.tolist())

    shared_pairs = pairs_within(overlap.rows)
    old, new = (pairs_within(overlap.totals(side, int(side.max()) + 1)) for side in (overlap.old, overlap.new))
    n = int(overlap.rows.sum())
    pairs = n * (n - 1) // 2
    chance = old * new
    maximum = (old + new) * pairs
    return 1.0 if maximum == 2 * chance else 2 * (shared_pairs * pairs - chance) / (maximum - 2 * chance)
