"""Neighbours among the vectors of a run: which index suits them, how it is trained, filled, changed, opened and searched."""
