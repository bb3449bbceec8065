"""Spherical k-means over partitions: the state machine, the partitions, the sums."""
