"""Rows and centres whose nearest ones are hard to tell apart."""


import numpy as np

from pipeline.vectors import Floats, unit


def rows(n: int, d: int, seed: int = 0) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


def random(n: int, d: int, k: int) -> tuple[Floats, Floats]:
    return rows(n, d), rows(k, d, seed=1)


def near_ties(n: int, d: int, k: int) -> tuple[Floats, Floats]:
    """Centres a dozen at a time, that differ by less than float32's rounding can tell."""
    centres = np.tile(rows(-(-k // 12), d, seed=1), (12, 1))[:k]
    centres[k // 2 :, 0] += np.float32(3e-8)
    return rows(n, d), centres


def duplicates(n: int, d: int, k: int) -> tuple[Floats, Floats]:
    return rows(n, d), rows(max(1, k // 12), d, seed=1)[np.random.default_rng(2).integers(0, max(1, k // 12), k)]


def unnormalised(n: int, d: int, k: int) -> tuple[Floats, Floats]:
    random = np.random.default_rng(4)
    lengths = np.exp(random.uniform(-2, 2, (n, 1))), random.uniform(0.2, 4, (k, 1))
    return (rows(n, d) * lengths[0]).astype(np.float32), (rows(k, d, seed=1) * lengths[1]).astype(np.float32)


def clustered(n: int, d: int, k: int) -> tuple[Floats, Floats]:
    """Rows close to their centre, and centres close to others, as embeddings are."""
    random = np.random.default_rng(6)
    centres = unit(rows(max(1, k // 20), d, seed=1)[random.integers(0, max(1, k // 20), k)] + 0.02 * random.standard_normal((k, d)))
    return unit(centres[random.integers(0, k, n)] + 0.01 * random.standard_normal((n, d))), centres


def rounded_alike(n: int, d: int, k: int) -> tuple[Floats, Floats]:
    """Every value lies almost half a step of float16 above its neighbour below: what rounding costs adds up as far as it can."""
    signs = [np.random.default_rng(7).choice([-1, 1], (count, d)) for count in (max(1, n // 8), k)]
    signs[1][: k // 2] = np.resize(signs[0], (k // 2, d))
    rows, centres = ((sign * 2.0**-4 * (1 + 0.49 * 2.0**-10)).astype(np.float32) for sign in signs)
    return np.resize(rows, (n, d)), centres


CASES = {"random": random, "near ties": near_ties, "duplicates": duplicates, "unnormalised": unnormalised, "clustered": clustered,
         "rounded alike": rounded_alike}
