"""Samples of a root by column: which columns there are, those of a shard, which rows meet a condition, and the image of a row."""
