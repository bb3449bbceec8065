"""Kept samples to output shards and the files beside them."""
