"""The input list of a run, as it is written down in its root."""
