"""`import shardmill`: curate web image-text shards from Python, and look at what came out.

    root = shardmill.curate("sample", None, "curated", local=True)
    root.samples(["caption", "class_name"], where={"verdict": "kept"}).to_table()

`Stage` and what stands beside it are for stages of one's own (docs/extending.md).

pyproject.toml installs this folder under that name. Importing it brings neither torch nor Ray.
"""

from pipeline.api.curate import curate
from pipeline.api.opened import Root, open
from pipeline.api.samples import Samples
from pipeline.errors import InputError, OutputError, RecipeError, RootError, ShardmillError
from pipeline.select.ledger import Ledger
from pipeline.stage import Contract, Stage, stage_columns, stage_schema
from pipeline.stages.pixels import PIXELS, pixel_arrays

__all__ = [
    "PIXELS", "Contract", "InputError", "Ledger", "OutputError", "RecipeError", "Root", "RootError", "Samples", "ShardmillError",
    "Stage", "curate", "open", "pixel_arrays", "stage_columns", "stage_schema",
]
