"""`import shardmill`: curate web image-text shards from Python, and look at what came out.

    root = shardmill.curate("sample", None, "curated", local=True)
    root.samples(["caption", "class_name"], where={"verdict": "kept"}).to_table()

`Feed` and `Loader` train on it (docs/training.md). `Stage` and what stands beside it are for stages of one's own
(docs/extending.md).

pyproject.toml installs this folder under that name. Importing it brings neither torch nor Ray. It finds our own packages before
others of the same names, and the public names when they are asked for: the command may put its path in order before.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api.curate import curate
    from pipeline.api.opened import Root, open
    from pipeline.api.packing import pack
    from pipeline.api.samples import Samples
    from pipeline.errors import InputError, OutputError, RecipeError, RootError, ShardmillError
    from pipeline.feed.dataset import Feed, Fields
    from pipeline.feed.loader import Loader
    from pipeline.feed.pictures import RandomResizedCrop
    from pipeline.select.ledger import Ledger
    from pipeline.stage import Contract, Stage, stage_columns, stage_schema
    from pipeline.stages.pixels import PIXELS, pixel_arrays
    from schemas.answers.packs import Packed

__all__ = [
    "PIXELS", "Contract", "Feed", "Fields", "InputError", "Ledger", "Loader", "OutputError", "Packed", "RandomResizedCrop",
    "RecipeError", "Root", "RootError", "Samples", "ShardmillError", "Stage", "curate", "open", "pack", "pixel_arrays",
    "stage_columns", "stage_schema",
]

_HOMES = {
    "pipeline.api.curate": ("curate",),
    "pipeline.api.opened": ("Root", "open"),
    "pipeline.api.packing": ("pack",),
    "pipeline.api.samples": ("Samples",),
    "pipeline.errors": ("InputError", "OutputError", "RecipeError", "RootError", "ShardmillError"),
    "pipeline.feed.dataset": ("Feed", "Fields"),
    "pipeline.feed.loader": ("Loader",),
    "pipeline.feed.pictures": ("RandomResizedCrop",),
    "pipeline.select.ledger": ("Ledger",),
    "pipeline.stage": ("Contract", "Stage", "stage_columns", "stage_schema"),
    "pipeline.stages.pixels": ("PIXELS", "pixel_arrays"),
    "schemas.answers.packs": ("Packed",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return globals().setdefault(name, getattr(import_module(home), name))
    raise AttributeError(f"module 'shardmill' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__]


def _find_own_packages() -> None:
    """Imports `pipeline` and `schemas` from where this package lies: a project may have its own of these names, and the first that
    is imported has the name. Raises ImportError where that was another."""
    here = os.path.dirname(os.path.abspath(__file__))
    folders = [os.path.abspath(os.path.join(here, up)) for up in ("..", "../../..")]   # installed; in a checkout
    root = next(folder for folder in folders if PathFinder.find_spec("pipeline", [folder]))
    sys.path.insert(0, root)
    try:
        for name, part in (("schemas", "schemas.reasons"), ("pipeline", "pipeline.process.own_code")):
            try:
                import_module(part)
            except ModuleNotFoundError as error:
                other = getattr(sys.modules.get(name), "__file__", None)
                raise ImportError(
                    f"shardmill has a package {name} of its own, but this program has imported another one ({other}): "
                    "import shardmill first, or run the command `shardmill`") from error
    finally:
        sys.path.remove(root)


_find_own_packages()
