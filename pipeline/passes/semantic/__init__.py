"""Duplicates by meaning, within the classes of a run: the rows of a class are brought together, compared, and brought back."""
