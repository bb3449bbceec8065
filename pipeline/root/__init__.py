"""The life of an output root: lock, manifest, who made it, by which versions."""
