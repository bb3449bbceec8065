"""The validated description of one curation, and its presets."""
