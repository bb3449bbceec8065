"""Encoded pictures to pixels, and what is done against hostile ones."""
