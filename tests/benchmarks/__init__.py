"""How fast the annotate pass and its parts are, each against what it could be: `python -m tests.benchmarks`."""
