"""To and from a Ray cluster: one that is joined, or one that is started for the run."""
