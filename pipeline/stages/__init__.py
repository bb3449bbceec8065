"""The stages: each adds columns to samples, one row out for each row in."""
