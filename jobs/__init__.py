"""Thin entry points: they run alone, under `ray job submit` and under `ray submit`. No logic about data."""
