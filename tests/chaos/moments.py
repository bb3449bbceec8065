"""Which pass a run is in, as its root shows from outside."""

from pipeline.io.store import Store

PASSES = ("annotate", "reduce", "select", "export")
"""Those that are shot at. `reduce` is every reduction: duplicates and calibration before the verdicts, classes and labels after."""


def current_pass(root: Store, shards: int) -> str:
    """`start`, one of PASSES, or `done`. A few listings; no file is opened."""
    top = set(root.names()) | set(root.folders())
    if "_SUCCESS" in top:
        return "done"
    if "run.json" not in top:
        return "start"
    if "exports" in top:
        return "export"
    verdicts = next((name for name in top if name.startswith("verdicts@")), None)
    if verdicts is not None:
        return "select" if parquets(root, verdicts) < shards else "reduce"
    mentions = [f"columns/{name}" for name in root.folders("columns") if name.startswith("mentions@")]
    return "annotate" if not mentions or parquets(root, mentions[0]) < shards else "reduce"


def parquets(root: Store, folder: str) -> int:
    return sum(name.endswith(".parquet") for name in root.names(folder))
