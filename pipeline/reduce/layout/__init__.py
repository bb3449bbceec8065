"""Embeddings drawn in a plane."""
