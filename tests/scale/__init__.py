"""A run without pixels at the sizes where runs break: every pass after annotate, its time, memory, files and requests."""
