"""Commands that give tables of a root, and files of them: `sql` and `embeddings`."""
