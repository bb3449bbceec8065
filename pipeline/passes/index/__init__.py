"""Indexes of a run's embeddings: what belongs to them, how they are trained, filled and measured."""
