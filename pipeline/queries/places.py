"""Where the outputs of a root are, by names that stay the same over runs and are true on every store."""

import re
from collections.abc import Callable, Mapping

from pipeline.errors import InputError, RootError
from pipeline.export.class_table import class_table_path
from pipeline.export.stored import stored_meta, stored_sizes
from pipeline.plan import Plan
from pipeline.recipe.rule_columns import spelling_hint
from pipeline.root.existing import CURRENT, open_root, published
from pipeline.select.subset import SUBSET
from pipeline.store.store import Store
from schemas.answers.runs import FormerExports, Place

EXPORTS = "exports"
EXPORT = re.compile(r"[0-9a-f]{12}")

Published = Mapping[str, str | None]


def place(url: str, what: str) -> Place:
    """Where a published output of a root is: one of PLACES. A run that is at work, or was stopped, does not change the answer
    before it publishes its export. Raises InputError for a name that is none of PLACES, RootError for what is no root, before
    anything is published, and for an output that its recipe does not ask for."""
    if what not in PLACES:
        raise InputError(f"no output is called {what!r}{spelling_hint(what, PLACES)}: choose of {', '.join(PLACES)}")
    root = open_root(url).root
    path = PLACES[what](root, published(root))
    if path is None:
        raise RootError(f"{url} has no {what}: its recipe does not ask for any")
    return Place(root=url, what=what, path=f"{root.url.rstrip('/')}/{path}")


def _tars(root: Store, folders: Published) -> str:
    """The brace pattern of the exported tars, as webdataset and open_clip take it. Raises RootError where there is none."""
    export = _export(root, folders)
    stems = [tar.removesuffix(".tar") for tar in stored_sizes(root, export)]
    if not stems:
        raise RootError(f"{root.url} exported no sample, so it has no tars")
    return f"{export}/{stems[0]}.tar" if len(stems) == 1 else f"{export}/{{{stems[0]}..{stems[-1]}}}.tar"


def _export(root: Store, folders: Published) -> str:
    export = folders.get("export")
    if export is None:
        raise RootError(f"{root.url}/current.json is damaged: it names no export; run its command again")
    return export


def _embeddings(root: Store, folders: Published) -> str:
    """The columns that the export was made from, which its meta.json names."""
    return str(stored_meta(root, _export(root, folders))["columns"]["clip"])


def _report(root: Store, folders: Published) -> str | None:
    return "report.html"


def _within(name: str, file: str = "") -> Callable[[Store, Published], str | None]:
    """The folder of an output, or a file in it."""
    def path(root: Store, folders: Published) -> str | None:
        folder = folders.get(name)
        return folder if folder is None or not file else f"{folder}/{file}"
    return path


PLACES: Mapping[str, Callable[[Store, Published], str | None]] = {
    "shards": _export,
    "tars": _tars,
    "verdicts": _within("verdicts"),
    "subset": _within("verdicts", SUBSET),
    "labels": _within("labels"),
    "classes": lambda root, folders: None if folders.get("classes") is None else class_table_path(str(folders["classes"])),
    "centroids": _within("centroids"),
    "embeddings": _embeddings,
    "index": _within("index"),
    "report": _report,
}
"""What can be asked for, and its path in the root; None for what the recipe does not ask for."""


def former_exports(plan: Plan) -> FormerExports:
    """The exports of a root that are neither published nor this plan's: of former recipes and thresholds. One listing of each, no
    file is read."""
    root = plan.root
    needed = {plan.export, published(root).get("export") if root.exists(CURRENT) else None}
    folders = [f"{EXPORTS}/{name}" for name in root.folders(EXPORTS) if EXPORT.fullmatch(name)]
    sizes = [sum(root.sizes(folder).values()) for folder in folders if folder not in needed]
    return FormerExports(exports=len(sizes), bytes=sum(sizes))
