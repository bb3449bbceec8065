"""This process: where it finds code, and what of its machine it may use."""
