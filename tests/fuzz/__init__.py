"""Real shards, mutated by seed, through reading, stages, commit and account: `python -m tests.fuzz --seconds 300 --seed 0`."""
