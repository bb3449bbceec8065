"""`import shardmill`: curate web image-text shards from Python, and look at what came out.

    root = shardmill.curate("sample", None, "curated", local=True)
    root.samples(["caption", "class_name"], where={"verdict": "kept"}).to_table()

pyproject.toml installs this folder under that name. Importing it brings neither torch nor Ray.
"""

from pipeline.api.curate import curate
from pipeline.api.opened import Root, open
from pipeline.api.samples import Samples
from pipeline.errors import InputError, OutputError, RecipeError, RootError, ShardmillError
from pipeline.select.ledger import Ledger

__all__ = [
    "InputError", "Ledger", "OutputError", "RecipeError", "Root", "RootError", "Samples", "ShardmillError", "curate", "open",
]
