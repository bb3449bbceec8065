"""Which pass a run is in, as its root shows from outside."""

from pipeline.store.store import Store

PASSES = ("start", "annotate", "reduce", "select", "export")
"""Those that are shot at. `start`: processes start and models load. `reduce` is every reduction: duplicates and calibration before
the verdicts, classes and labels after."""


def current_pass(root: Store, shards: int) -> str:
    """One of PASSES, or `done`. A few listings; no file is opened."""
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
    stages = {name.split("@")[0]: f"columns/{name}" for name in root.folders("columns")}
    if "samples" not in stages:
        return "start"
    return "annotate" if "mentions" not in stages or parquets(root, stages["mentions"]) < shards else "reduce"


def gone_by(root: Store, shards: int, moment: str) -> bool:
    """Whether the pass is over without having been seen: select takes a tenth of a second, and whoever looks may wait for a
    processor as long."""
    if moment != "select":
        return False
    verdicts = next((name for name in root.folders() if name.startswith("verdicts@")), None)
    return verdicts is not None and parquets(root, verdicts) == shards


def parquets(root: Store, folder: str) -> int:
    return sum(name.endswith(".parquet") for name in root.names(folder))
