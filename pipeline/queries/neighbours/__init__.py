"""What is near what in a root: vectors of queries, the samples nearest to them, and what is known of those."""
