"""What a program calls: run a curation, open its root. The command line is a thin shell over it."""
