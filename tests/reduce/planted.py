"""Data whose clusters are known."""


import numpy as np

from pipeline.vectors import Floats, Ints, unit


def planted(seed: int, n: int = 20_000, d: int = 64, k: int = 50, noise: float = 0.5) -> tuple[Floats, Ints]:
    """n rows around k random directions (noise of that norm), and which direction each belongs to."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    centres = unit(rng.standard_normal((k, d)))
    return unit(centres[truth] + noise * rng.standard_normal((n, d)) / np.sqrt(d)), truth
