"""Whether a root is what it says: its account, its hashes, and what in it belongs to no output."""
