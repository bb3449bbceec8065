"""The passes of a run: each reads columns, calls a pure room, and writes what it returns."""
