"""Classes: levels, ids, labels and their weights."""
