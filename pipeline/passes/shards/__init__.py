"""Shards on their way into a pass and out of it: the rows that are read, and the files that are written."""
