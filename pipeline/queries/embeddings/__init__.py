"""The embeddings of a root as other tools read them."""
