"""Shards in: what they are, their members, and the samples in them."""
