"""Kills drivers, actors and nodes of a real cluster at seeded moments, continues, and compares every byte: `make chaos`."""
