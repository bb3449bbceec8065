"""Images and captions in files of their own, or named by a table, packed into shards."""
