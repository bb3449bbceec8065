"""Data whose clusters are known."""

import numpy as np

from pipeline.vectors import unit


def planted(seed, n=20_000, d=64, k=50, noise=0.5):
    """n rows around k random directions (noise of that norm), and which direction each belongs to."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    centres = unit(rng.standard_normal((k, d)))
    return unit(centres[truth] + noise * rng.standard_normal((n, d)) / np.sqrt(d)), truth
