"""Nearest centres: the only owner of FAISS."""
